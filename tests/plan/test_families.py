"""Each constraint family on a case small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError
from gangplan.plan.make import decide
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.policy import (
    CLASS_POLICY,
    PlanPolicy,
    QuotaShare,
    SupplyRisk,
    TenantQuota,
    policy_body,
    policy_from,
    read_plan_policy,
)
from gangplan.plan.solver import Search
from gangplan.plan.solver.search import keep_minimum_up, repair
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Plan, Pool, WorkloadClass

CERTAIN = (1.0,) * 5
Solve = Callable[..., Plan]


@pytest.fixture
def solve(now: datetime) -> Solve:
    """Plan for certain demand: medians by series, pools, nodes, and what else matters."""

    def run(medians: dict[Any, Any], pools: list[Pool], nodes: dict[str, int] | None = None, **given: Any) -> Plan:
        settings = settings_of(scenarios=given.pop("scenarios", 1), **given.pop("settings", {}))
        fleet = Fleet(pools=tuple(pools), nodes=nodes or {})
        return plan.solve(a_forecast(medians, now, CERTAIN), fleet, settings=settings, **given)

    return run


def nodes_of(found: Plan, pool: str) -> list[int]:
    """A pool's nodes by hour."""
    return found.nodes.filter(pl.col("pool") == pool).sort("hour")["nodes"].to_list()


def test_a_started_node_runs_its_minimum_time(solve: Solve) -> None:
    """One hour of demand keeps a node that must run four for four hours; without the rule it runs one."""
    peak = {("ann", "latency", "h100"): [0.0] * 10 + [8.0] + [0.0] * 13}
    for minimum, hours in ((0, 1), (4, 4)):
        found = solve(peak, [pool_of("main", "h100", minimum_up_hours=minimum)])
        assert sum(nodes_of(found, "main")) == hours


def test_rounded_fleets_keep_the_minimum_time() -> None:
    """A start is kept up as long as it must run, and what is kept starts nothing new."""
    starts = np.arange(6)
    assert keep_minimum_up(np.array([0, 2, 0, 0, 1, 0]), 0, starts, 3).tolist() == [0, 2, 2, 2, 1, 0]
    assert keep_minimum_up(np.array([1, 0, 0, 0, 0, 0]), 1, starts, 3).tolist() == [1, 0, 0, 0, 0, 0]


def test_a_committed_node_is_paid_for_through_the_horizon(solve: Solve) -> None:
    """A dear node on demand covers the short peak, a cheap committed one the base, and is paid for in all hours."""
    load = {("ann", "latency", "h100"): [7.0] * 20 + [14.0] * 4}
    pools = [
        pool_of("term", "h100", "committed", price_per_node_hour=10, max_nodes=3),
        pool_of("free", "h100", price_per_node_hour=30),
    ]
    found = solve(load, pools)
    assert max(nodes_of(found, "term")) == 1
    assert nodes_of(found, "free")[-4:] == [1] * 4
    cost = dict(found.cost.select("pool", "cost").iter_rows())
    assert (cost["term"], cost["free"]) == (24 * 10, 4 * 30)
    kept = solve({("ann", "latency", "h100"): [0.0] * 24}, pools, {"term": 2})
    assert kept.total_cost == 2 * 24 * 10


def test_work_that_can_wait_runs_in_the_cheap_hours(solve: Solve) -> None:
    """With a price by time of use, cost-bound work waits for the cheap night; money is counted by the hour's price."""
    factors = tuple(3.0 if hour in range(9, 21) else 0.5 for hour in range(24))
    load = {("ann", "cost", "h100"): [8.0] * 24}
    found = solve(load, [pool_of("main", "h100", price_per_node_hour=20, price_factors=factors, max_nodes=4)])
    counts = nodes_of(found, "main")  # from 09:00
    assert sum(counts[:12]) < 0.2 * sum(counts)
    prices = [60.0] * 12 + [10.0] * 12
    assert found.total_cost == pytest.approx(np.dot(counts, prices))
    assert found.shortage["expected_gpus"].sum() == pytest.approx(0, abs=0.1)


def test_a_carbon_cap_is_held_at_a_price_and_moves_work_to_the_green_pool(solve: Solve) -> None:
    """The dirty pool is cheaper; a cap or a carbon price lets the green one run; what is over the cap is said."""
    load = {("ann", "latency", "h100"): [7.0] * 24}
    dirty = pool_of("dirty", "h100", price_per_node_hour=10, power_kw_per_node=10, carbon_g_per_kwh=500)
    green = pool_of("green", "h100", price_per_node_hour=15, power_kw_per_node=10, carbon_g_per_kwh=50)
    free = solve(load, [dirty, green])
    assert sum(nodes_of(free, "dirty")) == 24
    capped = solve(load, [dirty, green], policy=PlanPolicy(carbon_cap_kg=60))
    kilograms = sum(nodes_of(capped, "dirty")) * 5 + sum(nodes_of(capped, "green")) * 0.5
    assert kilograms <= 60
    assert sum(nodes_of(capped, "dirty")) > 0
    priced = solve(load, [dirty, green], policy=PlanPolicy(carbon_price_per_kg=2))
    assert sum(nodes_of(priced, "green")) == 24
    over = solve(load, [dirty], policy=PlanPolicy(carbon_cap_kg=60, carbon_over_price=1))
    limit = over.limits.filter(pl.col("family") == "carbon_cap").row(0, named=True)
    assert (limit["amount"], limit["cost"]) == (pytest.approx(60), pytest.approx(60))
    assert any("carbon cap" in line for line in over.explanation)


def test_latency_work_survives_the_loss_of_a_zone(solve: Solve) -> None:
    """Two zones each carry all latency demand on their own, so that either may go; one zone alone carries it once."""
    load = {("ann", "latency", "h100"): [8.0] * 24}
    pools = [
        pool_of("a", "h100", zone="a", price_per_node_hour=10),
        pool_of("b", "h100", zone="b", price_per_node_hour=11),
    ]
    found = solve(load, pools)
    assert min(nodes_of(found, "a")) >= 1
    assert min(nodes_of(found, "b")) >= 1
    rules = {WorkloadClass.LATENCY: replace(CLASS_POLICY[WorkloadClass.LATENCY], zone_reserve=0.0)}
    alone = solve(load, pools, policy=PlanPolicy(classes=rules))
    assert sum(nodes_of(alone, "b")) == 0
    short = solve(load, [replace(pools[0], max_nodes=0), pools[1]])
    assert short.limits.filter(pl.col("family") == "zone_reserve")["amount"].sum() == pytest.approx(24 * 8)


def test_quotas_bound_a_tenant_and_cohorts_lend(solve: Solve) -> None:
    """A tenant is served up to its share and what it borrows; its cohort never holds more than its shares together."""
    load = {("ann", "throughput", "h100"): [30.0] * 24, ("bob", "throughput", "h100"): [4.0] * 24}
    pools = [pool_of("main", "h100", max_nodes=10, price_per_node_hour=1)]

    def served(**quotas: TenantQuota) -> list[float]:
        found = solve(load, pools, policy=PlanPolicy(quotas=quotas))
        return [
            24 * gpus - float(found.shortage.filter(pl.col("tenant") == tenant)["expected_gpus"].sum())
            for tenant, gpus in (("ann", 30), ("bob", 4))
        ]

    ten, alone = {"h100": QuotaShare(nominal=10)}, TenantQuota(shares={"h100": QuotaShare(nominal=10)})
    assert served(ann=alone) == [pytest.approx(240), pytest.approx(96)]
    borrows = TenantQuota(shares={"h100": QuotaShare(nominal=10, borrow=4)}, cohort="team")
    lends = TenantQuota(shares=ten, cohort="team")
    assert served(ann=borrows, bob=lends) == [pytest.approx(336), pytest.approx(96)]
    unbounded = TenantQuota(shares=ten, cohort="team")
    assert sum(served(ann=unbounded, bob=lends)) == pytest.approx(480)
    found = solve(load, pools, policy=PlanPolicy(quotas={"ann": alone}))
    assert any("quota" in line for line in found.explanation)


def test_a_quota_where_it_cannot_run_is_no_reason(solve: Solve) -> None:
    """Who is short on one accelerator is not told of a share of another one."""
    pools = [pool_of("big", "h100", max_nodes=0), pool_of("old", "a100", max_nodes=1)]
    quotas = {"ann": TenantQuota(shares={"a100": QuotaShare(nominal=0)}, cohort="team")}
    found = solve({("ann", "throughput", "h100"): [0.0, 1.0]}, pools, policy=PlanPolicy(quotas=quotas))
    (said,) = (line for line in found.explanation if line.startswith("Short"))
    assert "quota" not in said


def test_a_quota_over_the_fleet_is_refused(solve: Solve) -> None:
    """A share of more than the fleet may run is named with its value and the remedy."""
    quotas = {"ann": TenantQuota(shares={"h100": QuotaShare(nominal=81)})}
    with pytest.raises(InputError, match=r"quotas\[ann\].shares\[h100\].nominal: '?81.*raise max_nodes"):
        solve({("ann", "cost", "h100"): [1.0] * 24}, [pool_of("main", "h100")], policy=PlanPolicy(quotas=quotas))


def test_another_accelerator_serves_at_its_speed(solve: Solve) -> None:
    """Where work for an h100 may run on an a100 at half speed, twice the GPUs serve it, if that is cheaper."""
    load = {("ann", "throughput", "h100"): [8.0] * 24}
    pools = [pool_of("new", "h100", price_per_node_hour=30), pool_of("old", "a100", price_per_node_hour=10)]
    policy = PlanPolicy(speeds={"h100": {"a100": 0.5}})
    found = solve(load, pools, policy=policy)
    assert sum(nodes_of(found, "new")) == 0
    assert sum(nodes_of(found, "old")) == pytest.approx(48, abs=2)
    assert sum(nodes_of(solve(load, pools), "old")) == 0


def test_a_drought_of_spot_nodes_is_planned_for(
    now: datetime,
) -> None:
    """With droughts on half of the paths the plan is dearer, and on those paths spot nodes bring nothing."""
    fleet = Fleet(pools=(pool_of("spot", "h100", "spot", price_per_node_hour=8), pool_of("firm", "h100")))
    asked = a_forecast({("ann", "throughput", "h100"): [30.0] * 24}, now, CERTAIN)
    policy = PlanPolicy(spot_drought=SupplyRisk(share_of_paths=0.5, hours=24))
    calm = decide(Search(build_problem(asked, fleet, settings_of(scenarios=4, mip_gap=0.01))))[0]
    problem = build_problem(asked, fleet, settings_of(scenarios=4, mip_gap=0.01), policy=policy)
    dry = decide(Search(problem))[0]
    struck = (problem.supply[:, 0] == 0).any(axis=1)
    assert struck.sum() == 2
    assert (problem.supply[:, 1] == 1).all()
    assert dry.result.objective > calm.result.objective
    used = sum(gpus for (_, g), gpus in dry.serve.items() if problem.groups[g].spot)
    assert np.asarray(used)[problem.supply[:, 0] == 0].max(initial=0) <= 1e-6


def test_a_lost_zone_takes_all_its_pools() -> None:
    """Where there are two zones, a struck path loses one of them whole and never the other; one zone is never lost."""
    from gangplan.plan.problem.periods import Periods
    from gangplan.plan.problem.scenarios import draw_supply

    pools = [pool_of("a1", "h100", zone="a"), pool_of("a2", "l4", zone="a"), pool_of("b", "h100", zone="b")]
    policy = PlanPolicy(lost_zone=SupplyRisk(share_of_paths=1.0, hours=6, left=0.0))
    supply = draw_supply(pools, policy, Periods.from_horizon(24), 12, 3)
    assert (supply[:, 0] == supply[:, 1]).all()
    assert ((supply.min(axis=2) == 0).sum(axis=1) <= 2).all()
    assert (supply.min(axis=(1, 2)) == 0).all()
    assert (draw_supply(pools[:2], policy, Periods.from_horizon(24), 12, 3) == 1).all()


def test_a_plan_does_not_flutter(solve: Solve) -> None:
    """What saves less than the price of a change leaves the last plan's nodes; what saves more does not."""
    load = {("ann", "throughput", "h100"): [7.0] * 24}
    pools = [pool_of("one", "h100", price_per_node_hour=10), pool_of("two", "h100", price_per_node_hour=10.5)]
    before = solve(load, [pools[0], replace(pools[1], price_per_node_hour=9.0)], {"two": 1})
    assert sum(nodes_of(before, "two")) == pytest.approx(24, abs=3)
    after = solve(load, pools, {"two": 1}, previous=before)
    assert nodes_of(after, "two") == nodes_of(before, "two")
    dear = solve(load, [pools[0], replace(pools[1], price_per_node_hour=30.0)], {"two": 1}, previous=before)
    assert sum(nodes_of(dear, "one")) > 12


def test_what_reservations_stand_on_runs(solve: Solve) -> None:
    """Held nodes run without demand, over a budget that they exceed, and in rounded fleets."""
    load = {("ann", "throughput", "h100"): [0.0] * 24}
    held = {"main": [3] * 10}
    found = solve(load, [pool_of("main", "h100")], {"main": 3}, held=held, settings={"budget": 1.0})
    assert nodes_of(found, "main") == [3] * 10 + [0] * 14
    assert found.inputs["held"] == held


def test_mended_fleets_hold_every_limit(
    now: datetime,
) -> None:
    """A fleet of nonsense comes back within limits, lead times and what is held."""
    pool = pool_of("main", "h100", max_nodes=4, min_nodes=1, lead_time_hours=2)
    asked = a_forecast({("ann", "cost", "h100"): [1.0] * 24}, now)
    problem = build_problem(
        asked, Fleet(pools=(pool,), nodes={"main": 2}), settings_of(), held={"main": [0] * 5 + [3] * 2}
    )
    (mended,) = repair(problem, np.array([[9, 9, *range(22)]]))
    assert mended[:2].max() <= 2
    assert mended.max() <= 4
    assert mended.min() >= 1
    assert mended[5:7].min() >= 3


def test_a_policy_file_is_read_back_and_mistakes_are_named(tmp_path: Any) -> None:
    """What is written is read; a misspelt field, a class that is none and a negative price are named by their path."""
    policy = PlanPolicy(
        classes={WorkloadClass.COST: CLASS_POLICY[WorkloadClass.COST]},
        speeds={"h100": {"a100": 0.5}},
        quotas={"ann": TenantQuota(shares={"h100": QuotaShare(nominal=3, borrow=1)}, cohort="team")},
        spot_drought=SupplyRisk(share_of_paths=0.1),
        carbon_cap_kg=10.0,
    )
    assert policy_from(policy_body(policy)) == policy
    file = tmp_path / "plan.yaml"
    assert read_plan_policy(file) == PlanPolicy()
    file.write_text("carbon_cap: 3\n")
    with pytest.raises(InputError, match=r"plan policy.carbon_cap.*not a known field"):
        read_plan_policy(file)
    file.write_text("change_hours: -1\n")
    with pytest.raises(InputError, match="change_hours: -1"):
        read_plan_policy(file)
    file.write_text("classes: {bulk: {}}\n")
    with pytest.raises(InputError, match=r"plan policy.classes.bulk"):
        read_plan_policy(file)
    file.write_text("{\n")
    with pytest.raises(InputError, match=r"line .*not YAML"):
        read_plan_policy(file)
    with pytest.raises(InputError, match=r"share_of_paths: 2"):
        SupplyRisk(share_of_paths=2)
