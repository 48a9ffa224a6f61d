"""A benchmark of several parts: chosen on its command line, measured one after the other, written after each."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Mapping

from rich.progress import Progress as Bar

from benchmarks.parts.figures import Figure, report, write
from gangplan.progress import Progress

Part = Callable[[Progress], list[Figure]]
"""Measures a part, and says how far it is."""


def parser_of(benchmark: str, about: str, names: Iterable[str]) -> argparse.ArgumentParser:
    """Return the command line of a benchmark, with the parts and the share of the loads."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=about)
    parser.add_argument("--only", default=",".join(names), help="parts, by commas: %(default)s")
    parser.add_argument("--share", type=int, default=1, help="run 1/N of the loads (default: 1)")
    return parser


def names_in(parser: argparse.ArgumentParser, only: str) -> list[str]:
    """Return the parts that were asked for, or end with those that there are."""
    names, known = only.split(","), str(parser.get_default("only")).split(",")
    if unknown := set(names) - set(known):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(known)}")
    return names


def stop_cleanly() -> None:
    """Let SIGTERM end the benchmark as an exception does, so that nothing is left behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def measure(benchmark: str, parts: Mapping[str, Part], *, begins: str = "") -> None:
    """Measure the parts and report them; `begins` is what the bar of each says first, beside its name."""
    figures: list[Figure] = []
    with Bar(transient=True) as bar:
        for name, part in parts.items():
            found = _measured(name, part, bar, begins)
            figures += found
            write(benchmark, figures)
            for figure in found:
                bar.console.print(f"{figure.name}: {figure.value:.3g} ({figure.peer})", soft_wrap=True)
    report(benchmark, figures)


def _measured(name: str, part: Part, bar: Bar, begins: str) -> list[Figure]:
    task = bar.add_task(f"{name}: {begins}" if begins else name, total=None)

    def progress(done: float, total: float, text: str, /) -> None:
        bar.update(task, completed=done, total=total, description=f"{name}: {text}")

    try:
        return part(progress)
    finally:
        bar.remove_task(task)
