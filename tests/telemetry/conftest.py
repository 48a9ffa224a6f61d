"""An MLflow store that holds the sample: made once for the room, for reading only."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.telemetry.sources.sample.telemetry import GroundTruth, make_sample
from gangplan.telemetry.timing import offset, replayed
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store

from .malformed import TRIED

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
SEED = 7


@dataclass(frozen=True, kw_only=True)
class World:
    """The sample at the present, and the truth behind it."""

    telemetry: Telemetry
    truth: GroundTruth


def _shifted(truth: GroundTruth, by: timedelta) -> GroundTruth:
    """Return the truth with all times moved by that much."""
    return replace(
        truth,
        target=truth.target.with_columns(pl.col("hour") + by),
        events=truth.events.with_columns(pl.col("start", "end") + by),
        spikes=tuple(replace(spike, start=spike.start + by, end=spike.end + by) for spike in truth.spikes),
        outage=replace(truth.outage, start=truth.outage.start + by, end=truth.outage.end + by),
        missing=truth.missing.with_columns(pl.col("hour") + by),
        gap=(truth.gap[0] + by, truth.gap[1] + by),
    )


@pytest.fixture(scope="session")
def world() -> World:
    """The sample and its truth, moved to the present as the ingest moves it."""
    sample = make_sample(SEED)
    by: timedelta = offset(sample.telemetry, NOW.replace(minute=0))
    return World(telemetry=replayed(sample.telemetry, NOW), truth=_shifted(sample.truth, by))


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Store:
    """A store with the sample in it."""
    file = tmp_path_factory.mktemp("sample-store") / "mlflow.db"
    shutil.copy(mlflow_template, file)
    store = Store(uri=f"sqlite:///{file}")
    telemetry.ingest("sample", store, seed=SEED, clock=lambda: NOW)
    return store


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many malformed inputs were tried."""
    if TRIED:
        each = ", ".join(f"{count:,} of {name.removeprefix('test_')}" for name, count in TRIED.items())
        terminalreporter.write_line(f"malformed inputs tried: {TRIED.total():,} ({each})")
