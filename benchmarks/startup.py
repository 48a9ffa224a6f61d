"""`make bench-startup`: how long the commands take that only look, on a small home, each in a process of its own.

A command's time holds Python's start, the imports, the reading and the printing: all that a person waits for.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.parts.figures import Figure, report

ROUNDS = 5
"""Runs of each command; the table shows their median."""

SMALL = {"GANGPLAN_HORIZON_HOURS": "24", "GANGPLAN_BACKTEST_ORIGINS": "2"}
"""Settings that make the home quick to fill."""

GANG = "--tenant vision --pods 1 --gpus 4 --accelerator h100-lab --duration 1h"
FILL = ("init", "ingest sample", "train", "plan", f"reserve {GANG} --key first")
COMMANDS = (
    "--help",
    f"what-if {GANG}",
    "status",
    "calendar --hours 12",
    "explain --key first",
    "policy show",
    "node list",
    "ledger status",
    "plan list",
    "plan accelerators",
    "plan explain",
    "plan orders",
    "review list",
    "review history",
    "forecast totals --hours 6",
    "forecast spikes",
    "apply --dry-run",
)


def run(arguments: list[str], home: Path) -> tuple[float, float]:
    """Run a command once; return its wall time and its processor time in seconds."""
    environment = {**os.environ, **SMALL, "GANGPLAN_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {ran.returncode}\n{ran.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(name: str, arguments: list[str], home: Path) -> Figure:
    """Run a command several times, after once that warms the caches."""
    run(arguments, home)
    times = [run(arguments, home) for _ in range(ROUNDS)]
    processor_s = statistics.median(processor for _, processor in times)
    return Figure(
        name=name, value=statistics.median(wall for wall, _ in times), unit="s", peer=f"processor {processor_s:.2f} s"
    )


def main() -> None:
    """Fill a home, measure each command, report."""
    command = [sys.executable, "-m", "gangplan"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for line in FILL:
            run([*command, *line.split()], home)
        figures = [measure("python -c pass", [sys.executable, "-c", "pass"], home)]
        figures += [
            measure(f"gangplan {line.partition(' --tenant')[0]}", [*command, *line.split()], home) for line in COMMANDS
        ]
    report("startup", figures)


if __name__ == "__main__":
    main()
