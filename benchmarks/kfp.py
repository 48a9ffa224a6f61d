"""The figures of gangplan in Kubeflow Pipelines: steps, 200 runs at once, and what becomes of a dead run's slots.

`python -m benchmarks.kfp [--only NAME,...] [--share N] [--python FILE]`; NAMEs: start, overhead, pipeline, parallel,
dead. `start` and `dead` start a cluster with real nodes, which needs root. `--share 10` runs a tenth of the loads, to
see that all works.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress as Bar

from benchmarks.parts.figures import ROOT, Figure, report, write
from benchmarks.parts.kfp import dead, local, parallel, start
from gangplan.progress import Progress

PYTHON = ROOT / ".envs" / "kfp" / "bin" / "python"

Part = Callable[[Path, int, Progress], list[Figure]]
PARTS: dict[str, Part] = {
    "start": start.start,
    "overhead": local.overhead,
    "pipeline": local.pipeline,
    "parallel": parallel.parallel,
    "dead": dead.dead,
}


def main() -> None:
    """Measure what was asked for and report it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kfp", description="The figures in Kubeflow Pipelines.")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas: %(default)s")
    parser.add_argument("--share", type=int, default=1, help="run 1/N of the loads (default: 1)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="the Python of KFP's environment")
    asked = parser.parse_args()
    names = asked.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left behind
    figures: list[Figure] = []
    with Bar(transient=True) as bar:
        for name in names:
            found = _part(name, PARTS[name], asked.python, asked.share, bar)
            figures += found
            write("kfp", figures)
            for figure in found:
                bar.console.print(f"{figure.name}: {figure.value:.3g} ({figure.peer})", soft_wrap=True)
    report("kfp", figures)


def _part(name: str, measure: Part, python: Path, share: int, bar: Bar) -> list[Figure]:
    """Measure one part."""
    task = bar.add_task(name, total=None)

    def progress(done: float, total: float, text: str, /) -> None:
        bar.update(task, completed=done, total=total, description=f"{name}: {text}")

    try:
        return measure(python, share, progress)
    finally:
        bar.remove_task(task)


if __name__ == "__main__":
    main()
