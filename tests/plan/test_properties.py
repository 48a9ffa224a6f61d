"""Every returned plan, over random fleets, against a second statement of the constraints."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples
from tests.plan.builders import settings_of

from gangplan.plan.answer.result import to_plan
from gangplan.plan.answer.solution import Solution
from gangplan.plan.make import decide
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.policy import PlanPolicy, QuotaShare, SupplyRisk, TenantQuota
from gangplan.plan.problem.problem import Problem
from gangplan.plan.solver import Search
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Forecast, Pool, PoolKind

NEAR = 1e-4
HOURS = 6


def check(solution: Solution) -> None:
    """State every constraint of docs/plan.md anew, in NumPy, and hold the solution against it."""
    problem, nodes = solution.problem, solution.nodes
    assert nodes.min() >= 0
    for p, pool in enumerate(problem.pools):
        steps = np.diff(np.concatenate([[problem.now[p]], nodes[p]]))
        assert (nodes[p] <= pool.max_nodes).all()
        assert (steps[problem.periods.starts < pool.lead_time_hours] <= 0).all()
        for t, hour in enumerate(problem.periods.starts):
            young = problem.periods.starts[: t + 1] + pool.minimum_up_hours > hour
            assert np.maximum(steps[: t + 1], 0)[young].sum() <= nodes[p, t]
    served = np.zeros_like(problem.demand)
    used = np.zeros((problem.demand.shape[0], len(problem.groups), nodes.shape[1]))
    for (w, g), gpus in solution.serve.items():
        load, group = problem.workloads[w], problem.groups[g]
        other = problem.policy.speeds.get(load.accelerator, {}).get(group.accelerator)
        assert load.accelerator in ("any", group.accelerator) or other is not None
        speed = 1.0 if other is None else other
        assert not (load.workload_class == "latency" and group.spot)
        assert gpus.min() >= 0
        served[:, w] += speed * gpus
        used[:, g] += gpus
    for g, group in enumerate(problem.groups):
        room = sum(
            problem.pools[p].gpus_per_node
            * (1 - problem.pools[p].interruption_per_hour)
            * nodes[p]
            * problem.supply[:, p]
            for p in group.pools
        )
        assert (used[:, g] <= room + NEAR).all()
    hours = np.array(problem.periods.lengths)
    waiting_before = np.concatenate([np.zeros_like(served[:, :, :1]), solution.backlog[:, :, :-1]], axis=2)
    left = problem.demand * hours + waiting_before - (served + solution.short) * hours - solution.backlog
    assert np.abs(left).max() <= NEAR
    check_waiting(solution)
    check_quotas(solution)
    assert min(solution.short.min(), solution.backlog.min()) >= 0


def check_waiting(solution: Solution) -> None:
    """Nothing waits longer than its window, and nothing at the horizon's end."""
    problem = solution.problem
    window = {"latency": 0, "throughput": 12, "cost": 24}
    ends = problem.periods.starts + np.array(problem.periods.lengths)
    for w, load in enumerate(problem.workloads):
        for t, end in enumerate(ends):
            young = [s for s in range(t + 1) if problem.periods.starts[s] >= end - window[load.workload_class]]
            most = (problem.demand[:, w, young] * np.array(problem.periods.lengths)[young]).sum(axis=1)
            assert (solution.backlog[:, w, t] <= most + NEAR).all()
    assert solution.backlog[:, :, -1].max() == 0


def check_quotas(solution: Solution) -> None:
    """No tenant holds more than its share and what it borrows, no cohort more than its tenants' shares."""
    problem = solution.problem
    held: dict[tuple[str, str], np.ndarray] = {}
    for (w, g), gpus in solution.serve.items():
        key = problem.workloads[w].tenant, problem.groups[g].accelerator
        held[key] = held.get(key, 0.0) + gpus
    cohorts: dict[tuple[str, str], list[np.ndarray]] = {}
    shares: dict[tuple[str, str], float] = {}
    for tenant, quota in problem.policy.quotas.items():
        for accelerator, share in quota.shares.items():
            mine = held.get((tenant, accelerator), np.zeros(1))
            if share.borrow is not None or not quota.cohort:
                assert mine.max() <= share.nominal + (share.borrow or 0.0) + NEAR
            if quota.cohort:
                cohorts.setdefault((quota.cohort, accelerator), []).append(mine)
                shares[quota.cohort, accelerator] = shares.get((quota.cohort, accelerator), 0.0) + share.nominal
    for key, parts in cohorts.items():
        assert np.max(sum(parts[1:], start=parts[0])) <= shares[key] + NEAR


def money_of(solution: Solution) -> float:
    """Money for nodes, added up anew: committed ones are paid for in all hours."""
    problem, total = solution.problem, 0.0
    for p, pool in enumerate(problem.pools):
        for t, hours in enumerate(problem.periods.lengths):
            paid = solution.nodes[p, t]
            if pool.kind is PoolKind.COMMITTED:
                paid = max(solution.nodes[p].max(), min(problem.now[p], pool.max_nodes))
            hour = problem.start.hour + int(problem.periods.starts[t])
            factor = pool.price_factors[hour % 24] if pool.price_factors else 1.0
            total += paid * hours * pool.price_per_node_hour * factor
    return float(total)


FACTORS = tuple(0.5 + hour / 24 for hour in range(24))


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A random small pool."""
    least = draw(st.integers(0, 2))
    return Pool(
        name=f"p{draw(st.integers(0, 10**9))}",
        accelerator=draw(st.sampled_from(["h100", "a100"])),
        gpus_per_node=draw(st.integers(1, 8)),
        kind=draw(st.sampled_from([PoolKind.OWNED, PoolKind.ON_DEMAND, PoolKind.SPOT, PoolKind.COMMITTED])),
        minimum_up_hours=draw(st.sampled_from([0, 0, 2])),
        price_factors=draw(st.sampled_from([(), FACTORS])),
        price_per_node_hour=draw(st.floats(0, 40)),
        min_nodes=least,
        max_nodes=least + draw(st.integers(0, 3)),
        lead_time_hours=draw(st.integers(0, HOURS - 1)),
        interruption_per_hour=draw(st.sampled_from([0.0, 0.05, 0.5])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """A random fleet, what it runs, and the demand of up to four series."""
    found = draw(st.lists(pools(), min_size=1, max_size=4, unique_by=lambda pool: pool.name))
    series = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["ann", "bob"]),
                st.sampled_from(["latency", "throughput", "cost"]),
                st.sampled_from(["h100", "a100", "any", "h200"]),
            ),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    share = st.builds(QuotaShare, nominal=st.sampled_from([0.0, 1.0]), borrow=st.sampled_from([None, 0.0, 3.0]))
    quota = st.builds(
        TenantQuota, shares=st.fixed_dictionaries({"a100": share}), cohort=st.sampled_from(["team", "other"])
    )
    policy = PlanPolicy(
        speeds=draw(st.sampled_from([{}, {"h100": {"a100": 0.5}}, {"h200": {"h100": 0.7}, "any": {"a100": 0.4}}])),
        quotas=draw(st.dictionaries(st.sampled_from(["ann", "bob"]), quota)),
        spot_drought=SupplyRisk(share_of_paths=draw(st.sampled_from([0.0, 0.5])), hours=3, left=0.3),
    )
    if not any(pool.accelerator == "a100" and pool.max_nodes for pool in found):
        policy = replace(policy, quotas={})
    demand = st.lists(st.floats(0, 25), min_size=HOURS, max_size=HOURS)
    return {
        "fleet": Fleet(pools=tuple(found), nodes={pool.name: draw(st.integers(0, 4)) for pool in found}),
        "medians": {one: draw(demand) for one in series},
        "scenarios": draw(st.integers(1, 4)),
        "budget": draw(st.none() | st.floats(1, 1500)),
        "policy": policy,
    }


@examples(10, 400)
@given(world=worlds())
def test_every_plan_keeps_every_constraint_and_adds_up(
    world: dict[str, Any],
    now: datetime,
) -> None:
    """Never infeasible, never negative; constraints hold; tables, money and shortage add up."""
    forecast = a_forecast(world["medians"], now)
    given_settings = settings_of(scenarios=world["scenarios"], budget=world["budget"], mip_gap=0.005)
    problem = build_problem(forecast, world["fleet"], given_settings, policy=world["policy"])
    solution, bindings = decide(Search(problem))
    check(solution)
    plan = to_plan(forecast, solution, bindings)
    assert plan.status == "optimal"
    assert plan.total_cost == pytest.approx(plan.cost["cost"].sum())
    assert plan.total_cost == pytest.approx(money_of(solution))
    parts = solution.series_short().sum(axis=1)
    assert np.allclose(parts, solution.short.sum(axis=1), atol=NEAR)
    assert plan.shortage["expected_gpus"].min() >= 0
    assert plan.shortage["probability"].is_between(0, 1).all()
    assert all(one.amount > 0 and one.cost >= 0 for one in bindings)


def service(problem: Problem) -> tuple[float, float]:
    """Return what a plan costs beside its nodes and its budget's price, and its whole price."""
    solution, _ = decide(Search(problem))
    spent = float(solution.cost.sum())
    over = 0.0 if problem.budget is None else max(0.0, spent - problem.budget)
    return solution.result.objective - spent - 100.0 * over, solution.result.objective


@examples(10, 400)
@given(world=worlds(), more=st.floats(1.05, 3))
def test_more_budget_never_costs_service(
    world: dict[str, Any],
    more: float,
    now: datetime,
) -> None:
    """A larger budget never makes the plan dearer, nor its shortage worse unless both plans cost the same."""
    budget = world["budget"] or 200.0
    forecast = a_forecast(world["medians"], now)
    tight, wide = (
        service(
            build_problem(
                forecast,
                world["fleet"],
                settings_of(scenarios=world["scenarios"], budget=money, mip_gap=1e-7),
                policy=world["policy"],
            )
        )
        for money in (budget, budget * more)
    )
    near = 1e-5 * max(1.0, tight[1])
    assert wide[1] <= tight[1] + near
    assert wide[0] <= tight[0] + near or wide[1] >= tight[1] - near


@examples(10, 400)
@given(world=worlds(), extra=pools())
def test_another_pool_never_makes_the_plan_dearer(
    world: dict[str, Any],
    extra: Pool,
    now: datetime,
) -> None:
    """A pool that need not run can only help: without it the price is never lower."""
    forecast, fleet = a_forecast(world["medians"], now), world["fleet"]
    optional = replace(extra, name="extra", min_nodes=0)
    calm = replace(world["policy"], spot_drought=SupplyRisk())  # another pool would draw other droughts
    chosen = settings_of(scenarios=world["scenarios"], budget=world["budget"], mip_gap=1e-7)
    without = service(build_problem(forecast, fleet, chosen, policy=calm))[1]
    larger = replace(fleet, pools=(*fleet.pools, optional))
    assert service(build_problem(forecast, larger, chosen, policy=calm))[1] <= without + 1e-5 * max(1.0, without)


def test_the_sample_plan_keeps_every_constraint(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """A week with blocks of three hours passes the second statement of the constraints as well."""
    problem = build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=168, mip_gap=0.01))
    check(decide(Search(problem))[0])
