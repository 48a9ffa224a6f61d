"""Free, empty, tiny and huge parts of a problem: always a plan, and the price that HiGHS finds through Pyomo alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.plan.make import decide
from gangplan.plan.model.program import build
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.problem import Problem
from gangplan.plan.solver import Search
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Pool

GAP = 0.01


def by_pyomo_alone(problem: Problem) -> tuple[float, float]:
    """The price and the bound of the whole-number program by Pyomo's own interface to HiGHS; infinite if it fails."""
    model = build(problem)
    options = {"mip_rel_gap": 1e-4, "threads": 1}
    answer = pyo.SolverFactory("appsi_highs").solve(model, options=options, load_solutions=False)
    solved = answer.solver.termination_condition == pyo.TerminationCondition.optimal
    return (float(answer.problem.upper_bound), float(answer.problem.lower_bound)) if solved else (np.inf, -np.inf)


def test_nodes_that_must_run_and_serve_all_for_nothing_give_a_plan(now: datetime) -> None:
    """A week in which four owned nodes serve every path at no cost: no path has a cut, and the plan is proven."""
    fleet = Fleet(
        pools=(
            pool_of("owned", "h100", "owned", min_nodes=4, max_nodes=4, price_per_node_hour=16),
            pool_of("more", "h100", max_nodes=4),
        ),
        nodes={"owned": 4},
    )
    forecast = a_forecast({("ann", "latency", "h100"): [8.0] * 168}, now)
    found = plan.solve(forecast, fleet, settings=settings_of(horizon_hours=168, scenarios=9, mip_gap=GAP))
    assert (found.status, found.total_cost) == ("optimal", 4 * 16 * 168)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A pool that may be free, empty, must run, or bring nothing."""
    least = draw(st.sampled_from([0, 0, 1, 4]))
    return pool_of(
        f"p{draw(st.integers(0, 10**9))}",
        draw(st.sampled_from(["h100", "a100"])),
        draw(st.sampled_from(["owned", "on_demand", "spot", "committed"])),
        gpus_per_node=draw(st.sampled_from([1, 3, 8])),
        price_per_node_hour=draw(st.sampled_from([0.0, 0.0, 20.0, 1e5])),
        min_nodes=least,
        max_nodes=least + draw(st.sampled_from([0, 1, 40])),
        minimum_up_hours=draw(st.sampled_from([0, 3])),
        interruption_per_hour=draw(st.sampled_from([0.0, 0.999])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """A fleet and demand in which much is nothing; from one hour to two days."""
    found = draw(st.lists(pools(), min_size=1, max_size=3, unique_by=lambda pool: pool.name))
    hours = draw(st.sampled_from([1, 2, 7, 48]))
    amount = st.sampled_from([0.0, 0.0, 1e-7, 0.3, 5.0, 8.0, 1e5])
    demand = st.one_of(amount.map(lambda one: [one] * hours), st.lists(amount, min_size=hours, max_size=hours))
    kinds = st.tuples(
        st.just("ann"),
        st.sampled_from(["latency", "throughput", "cost"]),
        st.sampled_from(["h100", "a100", "any", "b"]),
    )
    return {
        "fleet": Fleet(pools=tuple(found), nodes={pool.name: draw(st.sampled_from([0, 1, 4])) for pool in found}),
        "medians": draw(st.dictionaries(kinds, demand, min_size=1, max_size=3)),
        "settings": {"scenarios": draw(st.sampled_from([1, 2, 9])), "budget": draw(st.sampled_from([None, 1e-3, 1e4]))},
        "hours": hours,
    }


@examples(15, 500)
@given(world=worlds())
def test_degenerate_problems_have_the_plan_of_the_whole_program(world: dict[str, Any], now: datetime) -> None:
    """Whatever is nothing or far from everything else: a plan, with a bound that holds and a price within the gap."""
    chosen = settings_of(horizon_hours=max(24, world["hours"]), mip_gap=GAP, **world["settings"])
    problem = build_problem(a_forecast(world["medians"], now), world["fleet"], chosen)
    found = decide(Search(problem))[0].result
    price, bound = by_pyomo_alone(problem)
    assert found.status == "optimal"
    near = 1e-4 * max(1.0, abs(found.objective))
    assert found.bound <= price + near
    assert bound - near <= found.objective <= price * (1 + GAP) / (1 - GAP) + near
    if found.objective == pytest.approx(0, abs=1e-6):
        assert found.gap == 0
