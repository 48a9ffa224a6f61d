"""The plan room as the cycle uses it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from tests.plan.builders import settings_of

from gangplan import plan
from gangplan.tables import PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, Plan


@pytest.fixture(scope="module")
def planned(sample_forecast: Forecast, sample_fleet: Fleet) -> Plan:
    """The sample's plan to one per cent."""
    return plan.solve(sample_forecast, sample_fleet, settings=settings_of(horizon_hours=168, mip_gap=0.01))


def test_sample_plan_is_whole_and_proven(planned: Plan, sample_fleet: Fleet) -> None:
    """The sample's plan has every pool and hour, declared tables, a proven gap of one per cent, money that adds up."""
    assert planned.status == "optimal"
    assert 0 <= planned.gap <= 0.01
    assert planned.nodes.schema == PLAN_NODES
    assert planned.cost.schema == PLAN_COST
    assert planned.shortage.schema == PLAN_SHORTAGE
    assert planned.limits.schema == PLAN_LIMITS
    assert planned.nodes.height == 168 * len(sample_fleet.pools)
    assert planned.shortage.height == 168 * 10
    assert planned.total_cost == pytest.approx(planned.cost["cost"].sum())
    lab = planned.nodes.filter(pl.col("pool") == "h100-lab")["nodes"]
    assert lab.unique().to_list() == [2]


def test_sample_plan_serves_what_it_can(planned: Plan) -> None:
    """With room in the fleet, latency demand is short by less than two per cent of an average hour."""
    latency = planned.shortage.filter(pl.col("workload_class") == "latency")
    assert latency["expected_gpus"].sum() / 168 < 0.02 * 74


def test_calendar_holds_the_plan_hour_by_hour(planned: Plan) -> None:
    """The calendar's intervals, unrolled, are the plan's nodes again."""
    calendar = plan.to_calendar(planned)
    unrolled = {
        (interval.pool, interval.start + timedelta(hours=hour)): interval.nodes
        for interval in calendar.intervals
        for hour in range(int((interval.end - interval.start).total_seconds() // 3600))
    }
    assert unrolled == {(pool, hour): nodes for hour, pool, nodes in planned.nodes.iter_rows()}
    assert calendar.plan_id == planned.plan_id


def test_logged_plan_reads_back_the_same(planned: Plan, sample_forecast: Forecast, mlflow_store: Store) -> None:
    """What is logged is read back equal, with the forecast that it stood on."""
    ahead_then = replace(sample_forecast, corrected_by="a run of beliefs")
    kept = plan.log_plan(planned, ahead_then, mlflow_store)
    assert kept.run_id is not None
    again, ahead = plan.read_plan(mlflow_store)
    assert (again.plan_id, again.run_id, again.total_cost, again.explanation, again.fleet) == (
        kept.plan_id,
        kept.run_id,
        kept.total_cost,
        kept.explanation,
        kept.fleet,
    )
    for table in ("nodes", "cost", "shortage", "limits"):
        assert getattr(again, table).equals(getattr(kept, table))
    assert ahead.quantiles.equals(sample_forecast.quantiles)
    assert ahead.corrected_by == "a run of beliefs"
    assert plan.plan_that_ran(mlflow_store, planned.issued_at + timedelta(hours=23)) is None
    found = plan.plan_that_ran(mlflow_store, planned.issued_at + timedelta(hours=24))
    assert found is not None
    assert found[0].plan_id == kept.plan_id
