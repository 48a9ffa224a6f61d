"""Units are kept: measured in other units (money, GPUs, kilograms, hours) a problem has the same plan.

Each test changes every quantity of one dimension by a factor. A term whose units do not add up (money per GPU-hour
added to money per node-hour, hours forgotten in a block) would not move along, and the plan would change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan.config import Settings
from gangplan.plan.answer.solution import Solution
from gangplan.plan.make import decide
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.policy import CLASS_POLICY, PlanPolicy, QuotaShare, SupplyRisk, TenantQuota
from gangplan.plan.problem.problem import Problem
from gangplan.plan.solver import Search
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Forecast, WorkloadClass

Series = tuple[str, str, str]
LOAD: dict[Series, float] = {
    ("ann", "latency", "h100"): 14.0,
    ("bob", "throughput", "h100"): 22.0,
    ("bob", "cost", "a100"): 9.0,
}


def wave(mean: float) -> list[float]:
    """Two quiet and two busy stretches a day."""
    return [mean * factor for factor in ([0.6] * 6 + [1.3] * 6) * 2]


@pytest.fixture
def fleet() -> Fleet:
    """Every kind of quantity that a pool has."""
    carbon: dict[str, Any] = {"power_kw_per_node": 8.0, "carbon_g_per_kwh": 300.0}
    away = {"region": "us", "zone": "us-a"}
    return Fleet(
        pools=(
            pool_of("firm", "h100", min_nodes=1, max_nodes=3, price_per_node_hour=18, lead_time_hours=1, **carbon),
            pool_of("term", "h100", "committed", max_nodes=2, price_per_node_hour=15, **carbon),
            pool_of("away", "h100", "spot", price_per_node_hour=7, interruption_per_hour=0.1, **carbon, **away),
            pool_of("old", "a100", max_nodes=4, price_per_node_hour=9, minimum_up_hours=2, **carbon),
        ),
        nodes={"firm": 1, "old": 1},
    )


@pytest.fixture
def policy() -> PlanPolicy:
    """Every kind of quantity that a policy has."""
    rule = replace(CLASS_POLICY[WorkloadClass.THROUGHPUT], data_region="local", data_gb_per_gpu_hour=4.0)
    return PlanPolicy(
        classes={WorkloadClass.THROUGHPUT: rule},
        speeds={"h100": {"a100": 0.4}},
        quotas={"bob": TenantQuota(shares={"h100": QuotaShare(nominal=20, borrow=2)})},
        spot_drought=SupplyRisk(share_of_paths=0.34, hours=6, left=0.2),
        carbon_cap_kg=60.0,
        carbon_over_price=0.5,
        carbon_price_per_kg=0.2,
        egress_per_gb={"local": 0.1},
    )


@pytest.fixture
def asked(now: Any) -> Forecast:
    """A day of three series."""
    return a_forecast({one: wave(mean) for one, mean in LOAD.items()}, now)


@pytest.fixture
def settings() -> Settings:
    """A budget that binds, solved to the end."""
    return settings_of(scenarios=3, budget=900.0, shortage_price=12.0, mip_gap=1e-7)


def solved(asked: Forecast, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> Solution:
    """Solve it."""
    return decide(Search(build_problem(asked, fleet, settings, policy=policy)))[0]


def priced_alike(one: Solution, other: Problem, factor: float) -> None:
    """Each solution's fleet costs, in the other units, the same but for the factor; so they have the same optimum."""

    theirs = Search(other).price(one.nodes).objective
    assert theirs == pytest.approx(factor * one.result.objective, rel=1e-6)


def test_money_in_cents(asked: Forecast, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> None:
    """Every price times a hundred: the same plan at a hundred times the price."""
    pools = tuple(replace(pool, price_per_node_hour=100 * pool.price_per_node_hour) for pool in fleet.pools)
    cents = settings.model_copy(update={"shortage_price": 1200.0, "budget": 90_000.0})
    policy_in_cents = replace(policy, carbon_over_price=50.0, carbon_price_per_kg=20.0, egress_per_gb={"local": 10.0})
    euros = solved(asked, fleet, settings, policy)
    priced_alike(euros, build_problem(asked, replace(fleet, pools=pools), cents, policy=policy_in_cents), 100.0)


def test_half_gpus(asked: Forecast, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> None:
    """GPUs counted in halves: twice as many on a node, asked for and allowed, each at half the price."""
    twice = asked.quantiles.with_columns(pl.col(column) * 2 for column in QUANTILE_COLUMNS)
    halves = replace(asked, quantiles=twice)
    pools = tuple(replace(pool, gpus_per_node=2 * pool.gpus_per_node) for pool in fleet.pools)
    rule = replace(policy.classes[WorkloadClass.THROUGHPUT], data_gb_per_gpu_hour=2.0)
    quotas = {"bob": TenantQuota(shares={"h100": QuotaShare(nominal=40, borrow=4)})}
    other = replace(policy, classes={WorkloadClass.THROUGHPUT: rule}, quotas=quotas)
    cheaper = settings.model_copy(update={"shortage_price": 6.0})
    whole = solved(asked, fleet, settings, policy)
    priced_alike(whole, build_problem(halves, replace(fleet, pools=pools), cheaper, policy=other), 1.0)


def test_carbon_in_grams(asked: Forecast, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> None:
    """Kilograms as grams: intensities and the cap times a thousand, prices of a kilogram by a thousand."""
    pools = tuple(replace(pool, carbon_g_per_kwh=1000 * pool.carbon_g_per_kwh) for pool in fleet.pools)
    grams = replace(policy, carbon_cap_kg=60_000.0, carbon_over_price=0.0005, carbon_price_per_kg=0.0002)
    kilograms = solved(asked, fleet, settings, policy)
    assert kilograms.emission.sum() > 0
    priced_alike(kilograms, build_problem(asked, replace(fleet, pools=pools), settings, policy=grams), 1.0)


def test_hours_as_blocks(fleet: Fleet, settings: Settings, policy: PlanPolicy, now: Any) -> None:
    """A block of three hours costs and serves what its three single hours do, where nothing changes within it."""
    flat = a_forecast({one: wave(mean) for one, mean in LOAD.items()}, now, (1.0,) * 5)
    still = replace(policy, spot_drought=SupplyRisk())
    punctual = replace(fleet, pools=tuple(replace(pool, lead_time_hours=0, minimum_up_hours=0) for pool in fleet.pools))
    waits = {kind: replace(rule, defer_hours=0) for kind, rule in CLASS_POLICY.items()}
    still = replace(still, classes=waits)
    blocks = build_problem(flat, punctual, settings, policy=still, blocks=((24, 3),))
    hours = build_problem(flat, punctual, settings, policy=still, blocks=((24, 1),))
    found, _ = decide(Search(blocks))

    single = Search(hours).price(np.repeat(found.nodes, 3, axis=1))
    assert single.objective == pytest.approx(found.result.objective, rel=1e-6)
