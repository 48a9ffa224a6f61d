"""What cannot be planned is refused by field, value and remedy; what is merely too much comes back as a plan."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import polars as pl
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Forecast

LOAD = {("ann", "throughput", "h100"): [10.0] * 24}


@pytest.fixture
def forecast(now: datetime) -> Forecast:
    """A day of one series."""
    return a_forecast(LOAD, now)


@pytest.fixture
def fleet() -> Fleet:
    """One pool."""
    return Fleet(pools=(pool_of("main", "h100"),), nodes={"main": 2})


def changed(forecast: Forecast, quantiles: pl.DataFrame) -> Forecast:
    """The forecast with another table."""
    return Forecast(issued_at=forecast.issued_at, model=forecast.model, quantiles=quantiles)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_demand_that_is_no_number_is_refused(value: float | None, forecast: Forecast, fleet: Fleet) -> None:
    """NaN, infinity and null in the forecast are named by series, hour and column."""
    hour = forecast.issued_at + timedelta(hours=3)
    table = forecast.quantiles.with_columns(
        pl.when(pl.col("hour") == hour).then(pl.lit(value)).otherwise(pl.col("q0.9")).alias("q0.9")
    )
    with pytest.raises(InputError, match=re.escape("[ann/throughput/h100, 2026-03-02T12:00Z].q0.9")):
        plan.solve(changed(forecast, table), fleet, settings=settings_of())


def test_a_missing_hour_and_an_empty_table_are_refused(forecast: Forecast, fleet: Fleet) -> None:
    """A series with a gap and a forecast without rows are named."""
    gap = forecast.quantiles.filter(pl.col("hour") != forecast.issued_at + timedelta(hours=3))
    with pytest.raises(InputError, match=r"ann/throughput/h100.*each of the 24 hours"):
        plan.solve(changed(forecast, gap), fleet, settings=settings_of())
    with pytest.raises(InputError, match="is empty"):
        plan.solve(changed(forecast, forecast.quantiles.head(0)), fleet, settings=settings_of())


def test_an_unknown_class_is_refused(forecast: Forecast, fleet: Fleet) -> None:
    """A workload class that has no policy is named, with those that have one."""
    table = forecast.quantiles.with_columns(workload_class=pl.lit("bulk"))
    with pytest.raises(InputError, match=r"'bulk'.*latency, throughput, cost"):
        plan.solve(changed(forecast, table), fleet, settings=settings_of())


def test_a_lead_time_longer_than_the_horizon_is_refused(forecast: Forecast) -> None:
    """A pool that is meant to grow and cannot in time is named; one that need not grow is not."""
    slow = pool_of("slow", "h100", lead_time_hours=24, max_nodes=4)
    with pytest.raises(InputError, match=re.escape("pools[slow].lead_time_hours: 24")):
        plan.solve(forecast, Fleet(pools=(slow,), nodes={"slow": 3}), settings=settings_of())
    assert plan.solve(forecast, Fleet(pools=(slow,), nodes={"slow": 4}), settings=settings_of()).status == "optimal"


def test_a_wrong_pool_or_no_pool_is_refused() -> None:
    """A negative price and an empty fleet never become a fleet."""
    with pytest.raises(InputError, match="price_per_node_hour: -1"):
        pool_of("main", "h100", price_per_node_hour=-1)
    with pytest.raises(InputError, match="pools"):
        Fleet(pools=())


def test_no_demand_stops_what_may_stop(fleet: Fleet, now: datetime) -> None:
    """Zero demand is planned as no nodes and no money."""
    none = plan.solve(a_forecast({("ann", "latency", "h100"): [0.0] * 24}, now), fleet, settings=settings_of())
    assert (none.total_cost, none.gap, none.nodes["nodes"].sum(), none.status) == (0, 0, 0, "optimal")
    assert "Nobody is short" in plan.explain(none)


def test_an_accelerator_that_no_pool_has_is_said(fleet: Fleet, now: datetime) -> None:
    """Demand that nothing can serve is short whole, and the plan names the accelerator."""
    asked = a_forecast({**LOAD, ("bob", "cost", "h200"): [4.0] * 24}, now)
    found = plan.solve(asked, fleet, settings=settings_of())
    bob = found.shortage.filter(pl.col("tenant") == "bob")
    assert bob["probability"].to_list() == [1.0] * 24
    assert "no pool has the accelerator h200: add one to the fleet" in plan.explain(found)
    assert found.limits.filter(pl.col("family") == "no_pool")["name"].to_list() == ["cost/h200"]


def test_any_accelerator_is_served_by_all(
    now: datetime,
) -> None:
    """A series that takes any accelerator runs on the cheapest and spills over to the other."""
    fleet = Fleet(
        pools=(
            pool_of("cheap", "a100", max_nodes=1, price_per_node_hour=8),
            pool_of("dear", "h100", max_nodes=9, price_per_node_hour=30),
        )
    )
    asked = a_forecast({("ann", "latency", "any"): [14.0] * 24}, now, (1.0,) * 5)
    found = plan.solve(asked, fleet, settings=settings_of())
    assert found.shortage["expected_gpus"].sum() == 0
    assert found.nodes.group_by("pool").agg(pl.col("nodes").min()).sort("pool").rows() == [("cheap", 1), ("dear", 1)]
