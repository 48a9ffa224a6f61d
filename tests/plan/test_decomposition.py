"""Cuts, bounds and warm starts against the whole model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.effort import effort
from tests.plan.instances import instance

from gangplan.plan.model.algebra import compile_model
from gangplan.plan.model.program import build, build_recourse
from gangplan.plan.problem.policy import RISK_TAIL, RISK_WEIGHT, SupplyRisk
from gangplan.plan.problem.problem import Problem
from gangplan.plan.problem.scenarios import draw_supply
from gangplan.plan.solver.decomposition import Decomposition
from gangplan.plan.solver.extensive import ExtensiveForm
from gangplan.plan.solver.highs import Engine, Work
from gangplan.plan.solver.recourse import RecoursePrograms, cuts_from_bytes, cuts_to_bytes, risk
from gangplan.plan.solver.search import Search
from gangplan.progress import no_progress


@pytest.fixture(scope="module")
def small() -> Problem:
    """Four pools, three workloads with speeds and quotas, three paths, one of which has a drought of spot nodes."""
    problem = instance("S")
    policy = replace(problem.policy, spot_drought=SupplyRisk(share_of_paths=0.34, hours=10, left=0.2))
    supply = draw_supply(problem.pools, policy, problem.periods, 3, 5)
    assert 0 < (supply < 1).sum() < supply.size / 2
    return replace(problem, policy=policy, supply=supply)


@pytest.fixture(scope="module")
def solved(small: Problem) -> Decomposition:
    """That problem, relaxed, solved by cuts to a hundred thousandth."""
    decomposition = Decomposition(small)
    decomposition.run(1e-5, Work())
    return decomposition


def fleets(problem: Problem, count: int) -> list[np.ndarray]:
    """Random fleets, not whole, within each pool's limits."""
    rng = np.random.default_rng(1)
    most = np.array([[pool.max_nodes] for pool in problem.pools])
    return [rng.uniform(0, 1, (len(problem.pools), len(problem.periods))) * most for _ in range(count)]


def test_the_cuts_meet_the_whole_relaxed_model(small: Problem, solved: Decomposition) -> None:
    """Bound and best point enclose the optimum that HiGHS finds for all paths at once."""
    exact = Engine(compile_model(build(small)), relaxed=True, seed=1).run().objective
    assert solved.best is not None
    assert solved.bound <= exact * (1 + 1e-6)
    assert solved.best.objective >= exact * (1 - 1e-6)
    assert solved.best.objective - solved.bound <= 1.1e-5 * exact


def test_each_path_costs_what_its_own_model_says(small: Problem) -> None:
    """One matrix with other bounds prices each path as the model stated for that path alone does."""
    (fleet,) = fleets(small, 1)
    priced = RecoursePrograms(small).price(fleet)
    assert priced is not None
    for k, cost in enumerate(priced.costs):
        model = build_recourse(small, k)
        form = compile_model(model)
        engine = Engine(form, relaxed=True, seed=1)
        used = [(p, t) for p in model.P for t in model.T if id(model.nodes[p, t]) in form.column]
        nodes = np.array([fleet[place] for place in used])
        engine.bound_columns(form.columns_of([model.nodes[place] for place in used]), nodes, nodes)
        assert engine.run().objective == pytest.approx(cost, rel=1e-6)


def test_the_whole_relaxed_problem_hands_over_the_cuts_that_prove_it(small: Problem) -> None:
    """With one cut for each path, read from its duals, the master ends where the whole ended."""
    apart = Decomposition(small)
    whole = ExtensiveForm(apart.master, apart.programs)
    answer = whole.engine.run()
    cuts = whole.cuts(answer)
    assert [cut.path for cut in cuts] == [0, 1, 2]
    apart.add_cuts(cuts)
    _, bound = apart.master.relaxed()
    assert bound == pytest.approx(answer.objective, rel=1e-7)


@pytest.mark.parametrize("times", [1.0, 1.4, 0.5])
def test_cuts_hold_for_every_fleet_and_every_demand(times: float, small: Problem, solved: Decomposition) -> None:
    """No cut says more than a path really costs, under any fleet, nor when demand is another."""
    other = replace(small, paths=small.paths * times)
    paths = RecoursePrograms(other)
    for fleet in fleets(small, 6):
        priced = paths.price(fleet)
        assert priced is not None
        for cut in solved.cuts:
            assert cut.at(other, fleet) <= priced.costs[cut.path] * (1 + 1e-6) + 1e-3
        for cut, cost in zip(priced.cuts, priced.costs, strict=True):
            assert cut.at(other, fleet) == pytest.approx(cost, rel=1e-6, abs=1e-3)


def test_the_risk_is_the_mean_and_the_worst_fifth() -> None:
    """CVaR as written out: with ten paths the two worst count, with four a part of the worst one."""
    costs = np.array([1.0, 5, 3, 9, 2, 7, 4, 8, 6, 10])
    assert risk(costs) == pytest.approx((1 - RISK_WEIGHT) * 5.5 + RISK_WEIGHT * 9.5)
    few = np.array([1.0, 2, 3, 30])
    levels = [level + np.maximum(few - level, 0).sum() / (RISK_TAIL * 4) for level in few]
    assert risk(few) == pytest.approx((1 - RISK_WEIGHT) * 9 + RISK_WEIGHT * min(levels))


def test_the_next_plan_begins_where_the_last_ended(small: Problem) -> None:
    """With demand two per cent up, old cuts and the old fleet give a plan as good as a cold one."""
    first = Search(small)
    before = first.run(no_progress)
    later = replace(small, paths=small.paths * 1.02)
    packed = cuts_to_bytes(first.decomposition.near_cuts())
    again = Search(later, cuts=cuts_from_bytes(packed), start=before.nodes).run(no_progress)
    cold = Search(later).run(no_progress)
    assert again.status == cold.status == "optimal"
    assert again.objective == pytest.approx(cold.objective, rel=0.01)
    assert cuts_from_bytes(b"") == ()


@pytest.mark.searches
@pytest.mark.parametrize("seed", range(1, effort(4, 11)))
def test_rounding_is_within_one_per_cent_of_the_best_whole_fleet(seed: int) -> None:
    """What cuts and rounding give costs at most one per cent more than branch and bound finds, and is whole."""
    problem = instance("S", seed)
    ours = Search(problem).run(no_progress)
    exact = problem.settings.model_copy(update={"mip_gap": 1e-4})
    best = Search(replace(problem, settings=exact)).run(no_progress)
    assert ours.nodes.dtype == np.int64
    assert best.objective * (1 - 1e-4) <= ours.objective <= best.objective * 1.01
