"""The rules of thumb beside the plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.plan.builders import settings_of
from tests.plan.instances import instance

from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.problem import Problem
from gangplan.plan.questions.alternatives import FRESH_PATHS, GREEDY, PEAK, PLAN, compare, greedy, reactive, static_peak
from gangplan.plan.solver.search import Search
from gangplan.progress import no_progress
from gangplan.types import Fleet, Forecast


@pytest.fixture(scope="module")
def problem(sample_forecast: Forecast, sample_fleet: Fleet) -> Problem:
    """Two days of the sample."""
    return build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=48, scenarios=4, mip_gap=0.01))


def test_greedy_covers_the_demand_with_the_cheapest_pools(problem: Problem) -> None:
    """Once lead times are over, the nodes hold the demand of what they may serve, and no pool runs over its limit."""
    demand = problem.demand.mean(axis=0)
    nodes = greedy(problem, demand)
    late = problem.periods.starts >= 2
    for accelerator in ("h100", "a100", "l4"):
        rows = [p for p, pool in enumerate(problem.pools) if pool.accelerator == accelerator]
        asked = sum(demand[w] for w, load in enumerate(problem.workloads) if load.accelerator == accelerator)
        room = problem.usable_gpus[rows] @ nodes[rows]
        most = problem.usable_gpus[rows] @ np.array([problem.pools[p].max_nodes for p in rows])
        assert (room >= np.minimum(asked, most) - 1e-6)[late].all()


def test_reactive_knows_the_past_alone(problem: Problem) -> None:
    """Other demand from some hour on changes nothing before the hour after it."""
    path = problem.demand[0]
    later = path.copy()
    later[:, 20:] *= 3
    assert (reactive(problem, path)[:, :21] == reactive(problem, later)[:, :21]).all()
    assert (reactive(problem, path) != reactive(problem, later)).any()


def test_a_static_fleet_stays(problem: Problem) -> None:
    """After the lead times a static fleet does not change."""
    nodes = static_peak(problem, problem.demand.mean(axis=0))
    assert (nodes[:, 4:] == nodes[:, [4]]).all()


def test_the_plan_beats_the_rules_on_fresh_paths() -> None:
    """Out of sample the plan costs less than cheapest-first and static peaks; its own row is the base of the others."""
    small = instance("S")
    small = replace(small, settings=small.settings.model_copy(update={"scenarios": 9})).with_fresh_paths(9, 1)
    found = {one.name: one for one in compare(small, Search(small).run(no_progress).nodes)}
    assert found[PLAN].difference == 0
    assert found[PLAN].mean < min(found[GREEDY].mean, found[PEAK].mean)
    for one in found.values():
        assert one.difference == pytest.approx(one.mean - found[PLAN].mean)
        assert 0 <= one.unserved <= 1
        assert one.worst >= one.mean or one.name == PEAK


def test_fresh_paths_are_not_those_that_were_planned_on(problem: Problem) -> None:
    """They are as many as said, from the same forecast, and others."""
    fresh = problem.with_fresh_paths(FRESH_PATHS, problem.settings.seed + 1)
    assert fresh.paths.shape == (FRESH_PATHS, *problem.paths.shape[1:])
    assert fresh.paths.mean() == pytest.approx(problem.paths.mean(), rel=0.02)
    assert not np.allclose(fresh.paths[:4], problem.paths)
