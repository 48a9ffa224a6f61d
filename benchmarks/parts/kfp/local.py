"""What the local runner shows: the reserve step beside an empty component, and one whole reserved training."""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.parts.figures import ROOT, Figure
from gangplan.progress import Progress

ROUNDS = 10


def compile_sources() -> None:
    """Compile this checkout's modules, as they are where gangplan is installed; steps may not write beside them."""
    for folder in ("optimizer", "kfp_components"):
        compileall.compile_dir(ROOT / folder, quiet=2)


@contextmanager
def home_of(python: Path, *commands: str) -> Generator[dict[str, str]]:
    """Make a home by `gangplan` commands, and yield the environment of programs that work in it."""
    compile_sources()
    with tempfile.TemporaryDirectory(prefix="gangplan-bench-kfp-") as folder:
        environment = environment_of(Path(folder) / "home")
        for command in ("init", *commands):
            said = subprocess.run(
                [str(python), "-m", "gangplan", *command.split()],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.returncode == 0, f"gangplan {command}: {said.stderr}"
        yield environment


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a step: this checkout's code, and one home folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GANGPLAN")}
    path = os.pathsep.join(str(ROOT / folder) for folder in ("", "optimizer", "kfp_components"))
    return inherited | {"PYTHONPATH": path, "GANGPLAN_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"} | more


def overhead(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return how much longer the reserve step takes than an empty component, when it is granted at once."""
    with home_of(python) as environment:
        seconds = _run(python, environment, "steps", str(max(2, ROUNDS // share)))
    empty, reserve = (statistics.median(seconds[name]) for name in ("empty", "reserve"))
    peer = f"reserve_gang {reserve:.2f} s, an empty component {empty:.2f} s; medians of {len(seconds['empty'])}"
    return [Figure(name="reserve_overhead_s", value=reserve - empty, unit="s", bar="<= 1.0", peer=peer)]


def pipeline(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the time of one reserved training on the sample: reserve, train, plan, release."""
    progress(0, 1, "the sample is ingested")
    with home_of(python, "ingest sample") as environment:
        progress(0, 1, "the pipeline runs")
        (took,) = _run(python, environment, "pipeline")["pipeline"]
    peer = "sample of 9 series, all settings as they are: reserve, train with back-test, plan, release"
    return [Figure(name="pipeline_local_s", value=took, unit="s", bar="<= 30", peer=peer)]


def _run(python: Path, environment: dict[str, str], *words: str) -> dict[str, list[float]]:
    command = [str(python), "-m", "benchmarks.parts.kfp.runner", *words]
    said = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    return json.loads(said.stdout.splitlines()[-1])
