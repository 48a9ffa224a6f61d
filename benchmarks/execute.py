"""The figures of plans carried out, on a real cluster with Kueue and Karpenter, whose nodes and pods KWOK plays.

`python -m benchmarks.execute [--only NAME,...] [--share N] [--kills N] [--seed N]` starts a cluster for each part;
NAMEs: apply, admission, day, unchanged, storm, kills. `day` carries out a plan of 24 hours on a clock on which an hour
passes in 30 s, beside 30 gangs that ask all the time; then Karpenter alone orders nodes for the same gangs. What went
wrong is read from the cluster's own history, change by change. `--share 10` runs a tenth of the loads, to see that all
works.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from rich.progress import Progress as Bar
from tests.cluster.servers import build

from benchmarks.parts.execute import admission, day, kills, large, many_pools
from benchmarks.parts.figures import Figure, report, write
from gangplan.progress import Progress

NAMES = ("apply", "admission", "day", "unchanged", "storm", "kills")
KILLS, SEED = 500, 7

Part = Callable[[int, Progress], list[Figure]]


def main() -> None:
    """Measure what was asked for and report it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.execute", description="The figures of plans carried out."
    )
    parser.add_argument("--only", default=",".join(NAMES), help="parts, by commas: %(default)s")
    parser.add_argument("--share", type=int, default=1, help="run 1/N of the loads (default: 1)")
    parser.add_argument("--kills", type=int, default=KILLS, help="how many processes `kills` kills (default: 500)")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the kills (default: 7)")
    asked = parser.parse_args()
    names = asked.only.split(",")
    if unknown := set(names) - set(NAMES):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left behind
    build.servers(tuple(build.TOOLS))  # built once for all, which is not what is measured
    figures: list[Figure] = []
    with Bar(transient=True) as bar:
        for name, part in _parts(names, asked.kills, asked.seed).items():
            found = _part(name, part, asked.share, bar)
            figures += found
            write("execute", figures)
            for figure in found:
                bar.console.print(f"{figure.name}: {figure.value:.3g} ({figure.peer})", soft_wrap=True)
    report("execute", figures)


def _parts(names: Sequence[str], count: int, seed: int) -> dict[str, Part]:
    """Return what was asked for; the two parts of the large cluster share it."""
    in_large = [name for name in ("unchanged", "storm") if name in names]
    parts: dict[str, Part] = {
        "apply": many_pools.apply,
        "admission": admission.admission,
        "day": day.day,
        "kills": partial(kills.kills, count=count, seed=seed),
    }
    asked = {name: part for name, part in parts.items() if name in names}
    return asked | ({"large": partial(large.large, parts=in_large)} if in_large else {})


def _part(name: str, measure: Part, share: int, bar: Bar) -> list[Figure]:
    """Measure one part on a cluster of its own."""
    task = bar.add_task(f"{name}: the cluster starts", total=None)

    def progress(done: float, total: float, text: str, /) -> None:
        bar.update(task, completed=done, total=total, description=f"{name}: {text}")

    try:
        return measure(share, progress)
    finally:
        bar.remove_task(task)


if __name__ == "__main__":
    main()
