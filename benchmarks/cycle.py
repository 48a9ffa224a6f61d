"""`make bench-cycle`: the stages of the cycle, timed one by one, on the sample and on openb where the trace is there.

The forecast's loss is beside seasonal naive's, from the same back-test; the whole command's time includes its start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.parts.figures import ROOT, Figure, report
from gangplan import cycle, telemetry
from gangplan.config import load_settings
from gangplan.workflows import setup

Result = TypeVar("Result")
OPENB = ROOT.parent / "shared" / "data" / "openb" / "pods.csv.gz"


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do the work; return its result and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def measure(name: str, source: str, home: Path) -> list[Figure]:
    """Run each stage once on that source."""
    settings = load_settings(home=home)
    _, ingest_s = timed(lambda: cycle.ingest(settings, source, telemetry.Timing(replay=source != "sample")))
    setup.ensure_fleet(settings)
    training, train_s = timed(lambda: cycle.train(settings))
    plan, plan_s = timed(lambda: cycle.make_plan(settings))
    _, learn_s = timed(lambda: cycle.learn(settings))
    _, report_s = timed(lambda: cycle.write_report(settings))
    naive = f"seasonal naive {training.naive_wql:.2f}"
    return [
        Figure(name=f"{name}_ingest_s", value=ingest_s, unit="s"),
        Figure(name=f"{name}_train_s", value=train_s, unit="s"),
        Figure(name=f"{name}_plan_s", value=plan_s, unit="s"),
        Figure(name=f"{name}_feedback_s", value=learn_s, unit="s"),
        Figure(name=f"{name}_report_s", value=report_s, unit="s"),
        Figure(name=f"{name}_wql", value=training.wql, unit="%", bar=f"<= {training.naive_wql:.3f}", peer=naive),
        Figure(name=f"{name}_coverage_80", value=100 * training.coverage_80, unit="%"),
        Figure(name=f"{name}_plan_gap", value=100 * plan.gap, unit="%", bar="<= 1"),
    ]


def whole_command(home: Path) -> Figure:
    """Time `gangplan run sample` from nothing, as a shell would call it."""
    environment = {**os.environ, "GANGPLAN_HOME": str(home)}
    command = [sys.executable, "-m", "gangplan", "run", "sample", "--json"]
    _, seconds = timed(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))
    return Figure(name="command_s", value=seconds, unit="s", bar="<= 300")


def main() -> None:
    """Measure and report."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        figures += measure("sample", "sample", Path(folder) / "sample")
        if OPENB.exists():
            figures += measure("openb", str(OPENB), Path(folder) / "openb")
        else:
            print(f"openb: not measured, {OPENB} is not there")
        figures.append(whole_command(Path(folder) / "command"))
    report("cycle", figures)


if __name__ == "__main__":
    main()
