"""Small forecasts and fleets for the plan's tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gangplan.config import Settings
from gangplan.tables import QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.types import Fleet, Forecast, Pool, PoolKind

Series = tuple[str, str, str]
SPREAD = (0.75, 1.0, 1.3, 1.4, 1.6)  # each quantile's multiple of the median


def forecast_of(
    medians: Mapping[Series, Sequence[float]], start: datetime, spread: Sequence[float] = SPREAD
) -> Forecast:
    """A forecast whose quantiles are fixed multiples of the medians given by series."""
    rows = [
        {
            "hour": start + timedelta(hours=hour),
            "tenant": tenant,
            "workload_class": kind,
            "accelerator": accelerator,
            **{column: median * factor for column, factor in zip(QUANTILE_COLUMNS, spread, strict=True)},
        }
        for (tenant, kind, accelerator), values in medians.items()
        for hour, median in enumerate(values)
    ]
    return Forecast(
        issued_at=start, model="seasonal", quantiles=conform("quantiles", pl.DataFrame(rows), QUANTILE_TABLE)
    )


def wave(mean: float, swing: float, hours: int, phase: int = 14) -> list[float]:
    """A daily wave around `mean`, highest at `phase`."""
    return [mean * (1 + swing * math.cos((hour + 9 - phase) * math.tau / 24)) for hour in range(hours)]


SAMPLE: dict[Series, tuple[float, float]] = {
    ("vision", "latency", "l4"): (24, 0.5),
    ("search", "latency", "l4"): (30, 0.6),
    ("language", "latency", "h100"): (20, 0.4),
    ("language", "throughput", "h100"): (48, 0.1),
    ("vision", "throughput", "a100"): (56, 0.2),
    ("risk", "throughput", "a100"): (24, 0.3),
    ("risk", "cost", "a100"): (16, 0.5),
    ("search", "cost", "a100"): (20, 0.2),
    ("search", "throughput", "h100"): (16, 0.2),
    ("language", "cost", "l4"): (10, 0.3),
}


def pool(name: str, accelerator: str, kind: str = "on_demand", **fields: Any) -> Pool:
    """A pool of 8-GPU nodes with what a test does not care about filled in."""
    given = {"gpus_per_node": 8, "price_per_node_hour": 20.0, "max_nodes": 10, **fields}
    return Pool(name=name, accelerator=accelerator, kind=PoolKind(kind), **given)


@pytest.fixture(scope="session")
def sample_fleet() -> Fleet:
    """Six pools of three accelerators, and the lab."""
    return Fleet(
        pools=(
            pool("h100-owned", "h100", "owned", min_nodes=8, max_nodes=8, price_per_node_hour=16),
            pool("h100-on-demand", "h100", max_nodes=12, price_per_node_hour=32, lead_time_hours=2),
            pool("a100-owned", "a100", "owned", min_nodes=10, max_nodes=10, price_per_node_hour=9),
            pool("a100-on-demand", "a100", max_nodes=14, price_per_node_hour=20, lead_time_hours=1),
            pool("a100-spot", "a100", "spot", max_nodes=8, price_per_node_hour=7, interruption_per_hour=0.05),
            pool("l4-on-demand", "l4", gpus_per_node=4, max_nodes=60, price_per_node_hour=3.2, lead_time_hours=1),
            pool("h100-lab", "h100-lab", "owned", gpus_per_node=4, min_nodes=2, max_nodes=2, price_per_node_hour=8),
        ),
        nodes={"h100-owned": 8, "h100-on-demand": 2, "a100-owned": 10, "l4-on-demand": 14, "h100-lab": 2},
    )


@pytest.fixture(scope="session")
def sample_forecast() -> Forecast:
    """Ten series over 168 hours, a few hundred GPUs."""
    from datetime import UTC

    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    return forecast_of({series: wave(mean, swing, 168) for series, (mean, swing) in SAMPLE.items()}, start)


@pytest.fixture(scope="session")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """Make settings with a home of their own."""
    home: Path = tmp_path_factory.mktemp("home")

    def make(**fields: Any) -> Settings:
        return Settings(**{"home": home, "horizon_hours": 24, "mip_gap": 1e-3, "time_limit_s": 600, **fields})

    return make


@pytest.fixture(scope="session")
def make_forecast() -> Callable[..., Forecast]:
    """The builder of forecasts."""
    return forecast_of


@pytest.fixture(scope="session")
def make_pool() -> Callable[..., Pool]:
    """The builder of pools."""
    return pool
