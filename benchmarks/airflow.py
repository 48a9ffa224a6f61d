"""The figures of gangplan in Airflow: api-server, scheduler, triggerer, dag-processor, LocalExecutor and PostgreSQL.

`python -m benchmarks.airflow [--only NAME,...] [--share N] [--faults N] [--seed N]` starts an Airflow for each part,
with a ledger on a PostgreSQL server of its own; NAMEs: waiting, granted, line, overhead, imports, leaks. `--share 10`
runs a tenth of the loads, to see that all works; of `leaks`, `--faults 100` is a short one. It does to Airflow, its
tasks, its DAG runs and the ledger what happens to them in a year, and looks from outside whether a slot is lost, given
twice, or used without right; what it finds is written to .run/bench/airflow-leaks.jsonl. Its faults are drawn by
`--seed`; the machine decides what each task is at just then. The page's figures are those of `make bench-page`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.progress import Progress as Bar

from benchmarks.parts.airflow import imports, leaks, waits
from benchmarks.parts.figures import ROOT, Figure, report, write
from gangplan.progress import Progress

PYTHON = ROOT / ".envs" / "airflow" / "bin" / "python"
FAULTS, SEED = 2000, 7

Part = Callable[[Path, int, Progress], list[Figure]]


def import_times(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the import time of the slowest DAG file, and the others' beside it."""
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "optimizer", ROOT / "plugins"))
    took = imports.seconds_of(python, sorted((ROOT / "dags").rglob("*.py")), path)
    slowest = max(took, key=lambda file: took[file])
    peer = f"{slowest}, {took[slowest][1]:.2f} of the processor; " + ", ".join(
        f"{file} {seconds:.2f}" for file, (seconds, _) in took.items()
    )
    return [Figure(name="dag_import_s", value=took[slowest][0], unit="s", bar="<= 0.3", peer=peer)]


def main() -> None:
    """Measure what was asked for and report it."""
    parts: dict[str, Part] = {
        "imports": import_times,
        "waiting": waits.waiting,
        "granted": waits.granted,
        "line": waits.line,
        "overhead": waits.overhead,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.airflow", description="The figures in Airflow.")
    parser.add_argument("--only", default=",".join([*parts, "leaks"]), help="parts, by commas: %(default)s")
    parser.add_argument("--share", type=int, default=1, help="run 1/N of the loads (default: 1)")
    parser.add_argument("--faults", type=int, default=FAULTS, help="how many faults `leaks` makes (default: 2000)")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the faults (default: 7)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="the Python of Airflow's environment")
    asked = parser.parse_args()
    parts["leaks"] = partial(leaks.leaks, faults=asked.faults, seed=asked.seed)
    names = asked.only.split(",")
    if unknown := set(names) - set(parts):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(parts)}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left behind
    figures: list[Figure] = []
    with Bar(transient=True) as bar:
        for name in names:
            found = _part(name, parts[name], asked.python, asked.share, bar)
            figures += found
            write("airflow", figures)
            for figure in found:
                bar.console.print(f"{figure.name}: {figure.value:.3g} ({figure.peer})", soft_wrap=True)
    report("airflow", figures)


def _part(name: str, measure: Part, python: Path, share: int, bar: Bar) -> list[Figure]:
    """Measure one part on an Airflow of its own."""
    task = bar.add_task(f"{name}: Airflow starts", total=None)

    def progress(done: float, total: float, text: str, /) -> None:
        bar.update(task, completed=done, total=total, description=f"{name}: {text}")

    try:
        return measure(python, share, progress)
    finally:
        bar.remove_task(task)


if __name__ == "__main__":
    main()
