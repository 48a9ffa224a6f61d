"""A small world for the cycle's steps: one tenant's telemetry, a starter fleet, a champion, a challenger that waits."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from gangplan import cycle, forecast, workflows
from gangplan.config import Settings, load_settings
from gangplan.testing import NOW
from gangplan.tracking import Store, open_store

SETTINGS = {"horizon_hours": 24, "backtest_origins": 2, "scenarios": 3}
"""A small world's settings, as a pipeline's parameter: KFP hands every number on as a float."""

DAYS = 21


@dataclass(frozen=True, kw_only=True)
class World:
    """A home folder, as one test has it."""

    home: Path

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return load_settings(home=self.home, **SETTINGS)

    @property
    def store(self) -> Store:
        """Its MLflow."""
        return open_store(self.settings)

    @property
    def champion(self) -> str:
        """The version that steers."""
        return next(one.version for one in forecast.list_versions(self.store) if "champion" in one.aliases)

    @property
    def given(self) -> dict[str, Any]:
        """What every step is given: its home and its settings."""
        return {"home": str(self.home), "settings": SETTINGS}

    @property
    def stores(self) -> dict[str, str]:
        """The same without the settings, as the functions behind the steps take it."""
        return {"home": str(self.home), "mlflow": ""}


def write_demand(path: Path, swing: float = 2.0) -> Path:
    """Write three weeks of one tenant's hourly demand, up to now: a daily cycle that is so large, and some noise."""
    noise = random.Random(7)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["hour", "tenant", "workload_class", "accelerator", "gpus"])
        for hour in (NOW - timedelta(hours=back) for back in range(DAYS * 24, 0, -1)):
            gpus = 4 + swing * math.sin(hour.hour / 24 * 2 * math.pi) + noise.gauss(0, 0.3)
            rows.writerow([f"{hour:%Y-%m-%dT%H:%M:%SZ}", "vision", "throughput", "h100-lab", f"{gpus:.2f}"])
    return path


def build(home: Path, mlflow_template: Path) -> None:
    """Make a home with a starter fleet, its ledger, telemetry in MLflow, champion 1 and challenger 2, which waits."""
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    settings = load_settings(home=home, **SETTINGS)
    workflows.initialise(settings, from_telemetry=False, force=False)
    for swing, promotion in ((2.0, "gate"), (2.5, "person")):
        cycle.ingest(settings, str(write_demand(home / "demand.csv", swing)))
        cycle.train(load_settings(home=home, promotion=promotion, **SETTINGS))


def copy(template: Path, home: Path) -> World:
    """Copy a home; the artifacts of what was made before stay where they are."""
    (home / "mlflow").mkdir(parents=True)
    for name in ("mlflow/mlflow.db", "ledger.db", "fleet.yaml", "demand.csv"):
        shutil.copy(template / name, home / name)
    return World(home=home)


def outputs(root: Path) -> dict[str, dict[str, Any]]:
    """Return what each step of the one run put out, by the step's name."""
    (run,) = root.iterdir()
    return {step.name: json.loads((step / "executor_output.json").read_text()) for step in run.iterdir()}


@contextmanager
def a_person(asked: Callable[[], bool], answer: Callable[[], object]) -> Generator[None]:
    """Let a person answer as soon as they are asked, and wait for them at the end."""
    over, answered = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if asked():
                answer()
                answered.set()
                return

    person = threading.Thread(target=watch, daemon=True)
    person.start()
    try:
        yield
    finally:
        over.set()
        person.join()
    assert answered.is_set(), "nobody was asked"
