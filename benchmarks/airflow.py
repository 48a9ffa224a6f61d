"""The figures of gangplan in Airflow: api-server, scheduler, triggerer, dag-processor, LocalExecutor and PostgreSQL.

`python -m benchmarks.airflow [--only NAME,...] [--share N] [--faults N] [--seed N]` starts an Airflow for each part,
with a ledger on a PostgreSQL server of its own; NAMEs: waiting, granted, line, overhead, imports, leaks. `--share 10`
runs a tenth of the loads, to see that all works; of `leaks`, `--faults 100` is a short one. It does to Airflow, its
tasks, its DAG runs and the ledger what happens to them in a year, and looks from outside whether a slot is lost, given
twice, or used without right; what it finds is written to .run/bench/airflow-leaks.jsonl. Its faults are drawn by
`--seed`; the machine decides what each task is at just then. The page's figures are those of `make bench-page`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.parts.airflow import imports, leaks, waits
from benchmarks.parts.figures import ROOT, Figure
from benchmarks.parts.running import measure, names_in, parser_of, stop_cleanly
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
    parser = parser_of("airflow", "The figures in Airflow.", (*parts, "leaks"))
    parser.add_argument("--faults", type=int, default=FAULTS, help="how many faults `leaks` makes (default: 2000)")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the faults (default: 7)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="the Python of Airflow's environment")
    asked = parser.parse_args()
    parts["leaks"] = partial(leaks.leaks, faults=asked.faults, seed=asked.seed)
    names = names_in(parser, asked.only)
    stop_cleanly()
    begun = {name: partial(parts[name], asked.python, asked.share) for name in names}
    measure("airflow", begun, begins="Airflow starts")


if __name__ == "__main__":
    main()
