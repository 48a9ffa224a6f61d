"""A small world with a known truth: three series, a forecast with known quantiles, a plan of two pools."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np
import polars as pl

from gangplan.tables import DEMAND, PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE, QUANTILE_TABLE, conform, empty
from gangplan.types import QUANTILES, Fleet, Forecast, Outcome, Plan, PlanId, Pool, PoolKind

START = datetime(2026, 2, 23, tzinfo=UTC)
SERIES = {("vision", "latency", "h100"): 40.0, ("language", "throughput", "h100"): 90.0, ("risk", "cost", "a100"): 25.0}
NOISE = 0.12  # standard deviation of an hour's demand around its mean, relative
FLEET = Fleet(
    pools=(
        Pool(
            name="h100-owned",
            accelerator="h100",
            gpus_per_node=8,
            kind=PoolKind.OWNED,
            price_per_node_hour=16,
            max_nodes=40,
        ),
        Pool(
            name="a100-spot",
            accelerator="a100",
            gpus_per_node=4,
            kind=PoolKind.SPOT,
            price_per_node_hour=4,
            max_nodes=40,
        ),
    )
)


def hours_from(start: datetime, count: int) -> list[datetime]:
    """Return that many hours."""
    return [start + timedelta(hours=index) for index in range(count)]


def level_at(hour: datetime, mean: float) -> float:
    """The expected demand of a series in an hour: a daily cycle around its mean."""
    return mean * (1 + 0.3 * np.sin(2 * np.pi * hour.hour / 24))


def a_forecast(start: datetime = START, count: int = 168, spread: float = NOISE) -> Forecast:
    """The true distribution's quantiles when `spread` is the world's noise."""
    rows = [
        {
            "hour": hour,
            "tenant": tenant,
            "workload_class": kind,
            "accelerator": accelerator,
            **{f"q{p:g}": level_at(hour, mean) * (1 + spread * NormalDist().inv_cdf(p)) for p in QUANTILES},
        }
        for (tenant, kind, accelerator), mean in SERIES.items()
        for hour in hours_from(start, count)
    ]
    return Forecast(
        issued_at=start, model="gangplan-demand/1", quantiles=conform("q", pl.DataFrame(rows), QUANTILE_TABLE)
    )


def an_outcome(start: datetime = START, count: int = 168, shift: float = 1.0, seed: int = 1) -> Outcome:
    """What happened: the world's demand times `shift`."""
    chance = np.random.default_rng(seed)
    rows = [
        {
            "hour": hour,
            "tenant": tenant,
            "workload_class": kind,
            "accelerator": accelerator,
            "gpus": shift * level_at(hour, mean) * (1 + NOISE * chance.standard_normal()),
        }
        for (tenant, kind, accelerator), mean in SERIES.items()
        for hour in hours_from(start, count)
    ]
    end = start + timedelta(hours=count)
    return Outcome(start=start, end=end, demand=conform("demand", pl.DataFrame(rows), DEMAND))


def a_plan(start: datetime = START, count: int = 168, h100: int = 18, a100: int = 7) -> Plan:
    """A plan with constant nodes and no shortage foreseen."""
    sizes = {"h100-owned": h100, "a100-spot": a100}
    rows = [
        {"hour": hour, "pool": pool, "nodes": nodes}
        for pool, nodes in sizes.items()
        for hour in hours_from(start, count)
    ]
    prices = {pool.name: pool.price_per_node_hour for pool in FLEET.pools}
    cost = [
        {"pool": pool, "node_hours": float(nodes * count), "cost": nodes * count * prices[pool], "carbon_kg": 0.0}
        for pool, nodes in sizes.items()
    ]
    return Plan(
        plan_id=PlanId("plan-1"),
        issued_at=start,
        status="optimal",
        gap=0.0,
        total_cost=sum(row["cost"] for row in cost),
        nodes=pl.DataFrame(rows, schema=PLAN_NODES),
        cost=pl.DataFrame(cost, schema=PLAN_COST),
        shortage=empty(PLAN_SHORTAGE),
        limits=empty(PLAN_LIMITS),
        explanation=("Nothing is short.",),
        seed=1,
        fleet=FLEET,
        forecast_model="gangplan-demand/1",
    )
