"""Every returned plan, over random fleets, against a second statement of the constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gangplan.config import Settings
from gangplan.plan.problem import Problem, pose
from gangplan.plan.result import to_plan
from gangplan.plan.solution import Solution
from gangplan.plan.solve import decide
from gangplan.types import Fleet, Forecast, Pool, PoolKind

NEAR = 1e-4
HOURS = 6
EXAMPLES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(solution: Solution) -> None:
    """State every constraint of docs/plan.md anew, in NumPy, and hold the solution against it."""
    problem, nodes = solution.problem, solution.nodes
    assert nodes.min() >= 0
    for p, pool in enumerate(problem.pools):
        steps = np.diff(np.concatenate([[problem.now[p]], nodes[p]]))
        assert (nodes[p] <= pool.max_nodes).all()
        assert (steps[problem.periods.starts < pool.lead_time_hours] <= 0).all()
    served = np.zeros_like(problem.demand)
    used = np.zeros((problem.demand.shape[0], len(problem.groups), nodes.shape[1]))
    for (w, g), gpus in solution.serve.items():
        load, group = problem.workloads[w], problem.groups[g]
        assert load.accelerator in ("any", group.accelerator)
        assert not (load.workload_class == "latency" and group.spot)
        assert gpus.min() >= 0
        served[:, w] += gpus
        used[:, g] += gpus
    for g, group in enumerate(problem.groups):
        room = sum(
            problem.pools[p].gpus_per_node * (1 - problem.pools[p].interruption_per_hour) * nodes[p]
            for p in group.pools
        )
        assert (used[:, g] <= room + NEAR).all()
    hours = np.array(problem.periods.lengths)
    waiting_before = np.concatenate([np.zeros_like(served[:, :, :1]), solution.backlog[:, :, :-1]], axis=2)
    left = problem.demand * hours + waiting_before - (served + solution.short) * hours - solution.backlog
    assert np.abs(left).max() <= NEAR
    check_waiting(solution)
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


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A random small pool."""
    least = draw(st.integers(0, 2))
    return Pool(
        name=f"p{draw(st.integers(0, 10**9))}",
        accelerator=draw(st.sampled_from(["h100", "a100"])),
        gpus_per_node=draw(st.integers(1, 8)),
        kind=draw(st.sampled_from([PoolKind.OWNED, PoolKind.ON_DEMAND, PoolKind.SPOT])),
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
    demand = st.lists(st.floats(0, 25), min_size=HOURS, max_size=HOURS)
    return {
        "fleet": Fleet(pools=tuple(found), nodes={pool.name: draw(st.integers(0, 4)) for pool in found}),
        "medians": {one: draw(demand) for one in series},
        "scenarios": draw(st.integers(1, 4)),
        "budget": draw(st.none() | st.floats(1, 1500)),
    }


@EXAMPLES
@given(world=worlds())
def test_every_plan_keeps_every_constraint_and_adds_up(
    world: dict[str, Any],
    now: datetime,
    make_forecast: Callable[..., Forecast],
    settings_of: Callable[..., Settings],
) -> None:
    """Never infeasible, never negative; constraints hold; tables, money and shortage add up."""
    forecast = make_forecast(world["medians"], now)
    given_settings = settings_of(scenarios=world["scenarios"], budget=world["budget"], mip_gap=0.005)
    problem = pose(forecast, world["fleet"], given_settings)
    solution, bindings = decide(problem)
    check(solution)
    plan = to_plan(forecast, solution, bindings)
    assert plan.status == "optimal"
    assert plan.total_cost == pytest.approx(plan.cost["cost"].sum())
    prices = {pool.name: pool.price_per_node_hour for pool in plan.fleet.pools}
    money = sum(prices[pool] * nodes for _, pool, nodes in plan.nodes.iter_rows())
    assert plan.total_cost == pytest.approx(money)
    parts = solution.series_short().sum(axis=1)
    assert np.allclose(parts, solution.short.sum(axis=1), atol=NEAR)
    assert plan.shortage["expected_gpus"].min() >= 0
    assert plan.shortage["probability"].is_between(0, 1).all()
    assert all(one.amount > 0 and one.cost >= 0 for one in bindings)


def service(problem: Problem) -> tuple[float, float]:
    """Return what a plan costs beside its nodes and its budget's price, and its whole price."""
    solution, _ = decide(problem)
    spent = float(solution.cost.sum())
    over = 0.0 if problem.budget is None else max(0.0, spent - problem.budget)
    return solution.found.objective - spent - 100.0 * over, solution.found.objective


@EXAMPLES
@given(world=worlds(), more=st.floats(1.05, 3))
def test_more_budget_never_costs_service(
    world: dict[str, Any],
    more: float,
    now: datetime,
    make_forecast: Callable[..., Forecast],
    settings_of: Callable[..., Settings],
) -> None:
    """A larger budget never makes the plan dearer, nor its shortage worse unless both plans cost the same."""
    budget = world["budget"] or 200.0
    forecast = make_forecast(world["medians"], now)
    tight, wide = (
        service(pose(forecast, world["fleet"], settings_of(scenarios=world["scenarios"], budget=money, mip_gap=1e-7)))
        for money in (budget, budget * more)
    )
    near = 1e-5 * max(1.0, tight[1])
    assert wide[1] <= tight[1] + near
    assert wide[0] <= tight[0] + near or wide[1] >= tight[1] - near


@EXAMPLES
@given(world=worlds(), extra=pools())
def test_another_pool_never_makes_the_plan_dearer(
    world: dict[str, Any],
    extra: Pool,
    now: datetime,
    make_forecast: Callable[..., Forecast],
    settings_of: Callable[..., Settings],
) -> None:
    """A pool that need not run can only help: without it the price is never lower."""
    forecast, fleet = make_forecast(world["medians"], now), world["fleet"]
    optional = replace(extra, name="extra", min_nodes=0)
    chosen = settings_of(scenarios=world["scenarios"], budget=world["budget"], mip_gap=1e-7)
    without = service(pose(forecast, fleet, chosen))[1]
    larger = replace(fleet, pools=(*fleet.pools, optional))
    assert service(pose(forecast, larger, chosen))[1] <= without + 1e-5 * max(1.0, without)


def test_the_sample_plan_keeps_every_constraint(
    sample_forecast: Forecast, sample_fleet: Fleet, settings_of: Callable[..., Settings]
) -> None:
    """A week with blocks of three hours passes the second statement of the constraints as well."""
    problem = pose(sample_forecast, sample_fleet, settings_of(horizon_hours=168, mip_gap=0.01))
    check(decide(problem)[0])
