"""Telemetry of a small synthetic world, and stores in which a model has been trained on it once for all tests."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.config import Settings
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS, conform, empty
from gangplan.tracking import Store, table_sha256
from gangplan.types import QUANTILES, Training, Usage

END = datetime(2026, 3, 2, 9, tzinfo=UTC)
Row = tuple[str, str, str]
CHAT: Row = ("language", "latency", "h100")
TRAIN: Row = ("vision", "throughput", "a100")
BATCH: Row = ("risk", "cost", "l4")


def waves(hours: int, *, level: float = 40, growth: float = 0.0, noise: float = 0.03, seed: int = 1) -> np.ndarray:
    """Demand with a daily and a weekly cycle, growth per hour and noise that lasts some hours."""
    random = np.random.default_rng(seed)
    clock = np.arange(hours)
    shape = 1 + 0.3 * np.sin(2 * np.pi * clock / 24) - 0.25 * ((clock // 24) % 7 >= 5) + growth * clock
    drift = np.convolve(random.normal(0, noise, hours + 11), np.ones(12) / 3.5, "valid")
    return np.maximum(0, level * (shape + drift))


def pinball(made: np.ndarray, demand: np.ndarray) -> float:
    """The mean pinball loss of quantiles (... x levels), written apart from the code under test."""
    over, levels = demand[..., None] - made, np.array(QUANTILES)
    return float(np.maximum(levels * over, (levels - 1) * over).mean())


def a_demand(series: Mapping[Row, np.ndarray], end: datetime = END) -> pl.DataFrame:
    """A demand table whose series all end at `end`; NaN becomes a missing (null) hour."""
    parts: list[pl.DataFrame] = []
    for (tenant, kind, accelerator), values in series.items():
        hours = [end - timedelta(hours=len(values) - place) for place in range(len(values))]
        parts.append(
            pl.DataFrame({"hour": hours, "gpus": values}).with_columns(
                tenant=pl.lit(tenant), workload_class=pl.lit(kind), accelerator=pl.lit(accelerator)
            )
        )
    frame = pl.concat(parts).with_columns(pl.col("hour").dt.cast_time_unit("us"))
    return conform("demand", frame.with_columns(pl.col("gpus").fill_nan(None)), DEMAND)


def a_usage(series: Mapping[Row, np.ndarray], *, events: pl.DataFrame | None = None, end: datetime = END) -> Usage:
    """Telemetry of these hourly series and nothing else."""
    demand = a_demand(series, end)
    return usage_of(demand, events=events, end=end)


def usage_of(demand: pl.DataFrame, *, events: pl.DataFrame | None = None, end: datetime = END) -> Usage:
    """Telemetry that holds this demand table as it is."""
    start = demand["hour"].min()
    assert isinstance(start, datetime)
    return Usage(
        source="synthetic",
        sha256=hashlib.sha256(table_sha256(demand).encode()).hexdigest(),
        start=start,
        end=end,
        demand=demand,
        jobs=empty(JOBS),
        nodes=empty(NODES),
        queue=empty(QUEUE),
        requests=empty(REQUESTS),
        events=empty(EVENTS) if events is None else conform("events", events, EVENTS),
    )


def some_settings(home: Path, **given: object) -> Settings:
    """Settings of a small, quick training."""
    return Settings(**{"home": home, "horizon_hours": 48, "backtest_origins": 3, **given})  # type: ignore[arg-type]


def three_series(hours: int = 1000) -> dict[Row, np.ndarray]:
    """A latency, a throughput and a cost series with cycles."""
    return {
        CHAT: waves(hours, level=60, seed=1),
        TRAIN: waves(hours, level=30, growth=0.0003, seed=2),
        BATCH: waves(hours, level=12, noise=0.06, seed=3),
    }


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A store with one training in it, and what it was trained on."""

    store: Store
    usage: Usage
    settings: Settings
    training: Training


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Trained:
    """One training of three series; read it, do not write to it."""
    home = tmp_path_factory.mktemp("trained")
    store = copy_store(mlflow_template, home)
    usage, settings = a_usage(three_series()), some_settings(home)
    training = forecast.retrain(usage, store, settings=settings, clock=lambda: END)
    return Trained(store=store, usage=usage, settings=settings, training=training)


def copy_store(template: Path, home: Path) -> Store:
    """An empty store in `home`."""
    file = home / "mlflow" / "mlflow.db"
    file.parent.mkdir(parents=True)
    shutil.copy(template, file)
    return Store(uri=f"sqlite:///{file}")


@pytest.fixture
def trained_copy(trained: Trained, tmp_path: Path) -> Trained:
    """A store of the test's own with that training in it; artifacts are read where they lie."""
    assert trained.store.folder is not None
    file = tmp_path / "mlflow" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(trained.store.folder / "mlflow.db", file)
    return Trained(
        store=Store(uri=f"sqlite:///{file}"),
        usage=trained.usage,
        settings=trained.settings,
        training=trained.training,
    )


@pytest.fixture
def ticking() -> Callable[[], datetime]:
    """A clock that moves on a minute with every look."""
    moments = iter(END + timedelta(minutes=minute) for minute in range(10_000))
    return lambda: next(moments)
