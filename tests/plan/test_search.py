"""The search against brute force, and the solver's traps."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.optimize import linprog
from tests.plan.builders import pool_of, settings_of
from tests.plan.instances import instance, small

from gangplan import plan
from gangplan.plan.make import decide
from gangplan.plan.model.algebra import compile_model
from gangplan.plan.problem import policy
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.problem import Problem
from gangplan.plan.solver.highs import Engine, Work
from gangplan.plan.solver.search import Search
from gangplan.progress import no_progress
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Forecast


def recourse(problem: Problem, room: np.ndarray, k: int) -> float:
    """Price one scenario of a fixed fleet, written down anew for SciPy; `room` is GPUs by group and period."""
    loads, hours = problem.workloads, len(problem.periods)
    index: dict[tuple[object, ...], int] = {}
    for w, load in enumerate(loads):
        for t in range(hours):
            for g, group in enumerate(problem.groups):
                fits = load.accelerator in ("any", group.accelerator)
                if fits and not (load.workload_class == "latency" and group.spot):
                    index["serve", w, g, t] = len(index)
            index["short", w, t] = len(index)
            index["wait", w, t] = len(index)
    cost, upper = np.zeros(len(index)), np.full(len(index), np.inf)
    price = problem.settings.shortage_price
    window = {"latency": 0, "throughput": 12, "cost": 24}
    dear = {"latency": 3.0, "throughput": 1.0, "cost": 0.5}
    delay = {"latency": 0.0, "throughput": 0.01, "cost": 0.002}
    demand = problem.demand[k]
    balance, rhs = [], []
    for w, load in enumerate(loads):
        for t in range(hours):
            cost[index["short", w, t]] = price * dear[load.workload_class]
            cost[index["wait", w, t]] = price * delay[load.workload_class]
            last = max(0, t + 1 - window[load.workload_class])
            upper[index["wait", w, t]] = 0.0 if t == hours - 1 else demand[w, last : t + 1].sum()
            row = np.zeros(len(index))
            row[[at for key, at in index.items() if key[0] == "serve" and key[1] == w and key[3] == t]] = 1
            row[index["short", w, t]] = row[index["wait", w, t]] = 1
            if t:
                row[index["wait", w, t - 1]] = -1
            balance.append(row)
            rhs.append(demand[w, t])
    limit, most = [], []
    for g in range(len(problem.groups)):
        for t in range(hours):
            row = np.zeros(len(index))
            row[[at for key, at in index.items() if key[0] == "serve" and key[2] == g and key[3] == t]] = 1
            limit.append(row)
            most.append(room[g, t])
    answer = linprog(cost, limit, most, balance, rhs, np.column_stack([np.zeros(len(index)), upper]))
    assert answer.status == 0
    return float(answer.fun)


def true_price(problem: Problem, nodes: np.ndarray) -> float | None:
    """Price a whole fleet from the formulation's page; none where lead times forbid it."""
    total = 0.0
    room = np.zeros((len(problem.groups), nodes.shape[1]))
    for p, pool in enumerate(problem.pools):
        before = problem.now[p]
        for t, count in enumerate(nodes[p]):
            if count > before and t < pool.lead_time_hours:
                return None
            total += pool.price_per_node_hour * (count + policy.START_HOURS * max(0, count - before))
            lacking = max(0, pool.min_nodes - count)
            total += policy.BELOW_MINIMUM_FACTOR * problem.settings.shortage_price * pool.gpus_per_node * lacking
            before = count
        group = next(g for g, found in enumerate(problem.groups) if p in found.pools)
        room[group] += nodes[p] * pool.gpus_per_node * (1 - pool.interruption_per_hour)
    spend = sum(pool.price_per_node_hour * nodes[p].sum() for p, pool in enumerate(problem.pools))
    if problem.settings.budget is not None:
        total += policy.OVER_BUDGET_PRICE * max(0.0, spend - max(problem.settings.budget, problem.unavoidable_cost))
    for w, load in enumerate(problem.workloads):
        if load.workload_class == "latency":
            firm = [
                g for g, group in enumerate(problem.groups) if group.accelerator == load.accelerator and not group.spot
            ]
            lacking = 1.1 * problem.demand[:, w].mean(axis=0) - room[firm].sum(axis=0)
            total += policy.RESERVE_FACTOR * problem.settings.shortage_price * np.maximum(lacking, 0).sum()
    costs = np.array([recourse(problem, room, k) for k in range(len(problem.demand))])
    worst = min(
        level + np.maximum(costs - level, 0).sum() / (policy.RISK_TAIL * len(costs)) for level in (0.0, *costs.tolist())
    )
    return total + (1 - policy.RISK_WEIGHT) * costs.mean() + policy.RISK_WEIGHT * worst


CASES = {
    "latency and throughput on two pools": ({}, {}),
    "a lead time, too few nodes now": ({"lead_time_hours": 2}, {}),
    "a budget that is too small": ({}, {"budget": 60.0}),
    "a minimum that cannot be reached": ({"lead_time_hours": 2, "min_nodes": 2}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_search_equals_brute_force(
    name: str,
    now: datetime,
) -> None:
    """On tiny cases the search's price is that of the best of all whole fleets, each priced independently."""
    fields, given = CASES[name]
    fleet = Fleet(
        pools=(
            pool_of("firm", "h100", max_nodes=2, price_per_node_hour=18, **fields),
            pool_of("spot", "h100", "spot", max_nodes=1, price_per_node_hour=7, interruption_per_hour=0.1),
        ),
        nodes={"firm": 1},
    )
    forecast = a_forecast(
        {("a", "latency", "h100"): [5, 9, 3], ("b", "throughput", "h100"): [9, 2, 7], ("c", "cost", "any"): [1, 3, 2]},
        now,
    )
    problem = build_problem(forecast, fleet, settings_of(scenarios=2, mip_gap=1e-6, **given))
    solution, _ = decide(Search(problem))
    fleets = (np.array(both).reshape(2, 3) for both in itertools.product(*[range(3)] * 3, *[range(2)] * 3))
    prices = [price for nodes in fleets if (price := true_price(problem, nodes)) is not None]
    assert solution.result.objective == pytest.approx(min(prices), rel=1e-5)
    assert true_price(problem, solution.nodes) == pytest.approx(min(prices), rel=1e-5)
    assert solution.result.status == "optimal"


def test_no_time_still_gives_a_plan(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """With no time to search, the fleet that runs is kept and priced, and the status and the gap say so."""
    problem = build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=168, time_limit_s=1e-6))
    solution, bindings = decide(Search(problem))
    assert (solution.result.status, solution.result.gap) == ("time_limit", 1.0)
    assert (solution.nodes == np.array(problem.now)[:, None]).all()
    assert not [one for one in bindings if one.family in ("maximum_nodes", "lead_time", "budget")]


def test_no_time_lets_the_last_plan_go_on_without_what_is_lost(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """With no time and a last plan, its nodes go on, less what its pools no longer have, and the plan says so."""
    chosen = settings_of(scenarios=2, mip_gap=0.02)
    last = plan.solve(sample_forecast, sample_fleet, settings=chosen)
    pools = tuple(replace(one, max_nodes=9) if one.name == "l4-on-demand" else one for one in sample_fleet.pools)
    less = Fleet(pools=pools, nodes={**sample_fleet.nodes, "l4-on-demand": 9})
    none = settings_of(scenarios=2, time_limit_s=1e-6)
    found = plan.solve(sample_forecast, less, settings=none, previous=last)
    both = last.nodes.join(found.nodes, on=["hour", "pool"], suffix="_now")
    kept = both.filter(both["pool"] != "l4-on-demand")
    assert kept["nodes"].equals(kept["nodes_now"], check_names=False)
    assert found.nodes.filter(found.nodes["pool"] == "l4-on-demand")["nodes"].max() == 9
    assert found.status == "time_limit"
    assert any("The last plan goes on" in line for line in found.explanation)
    assert any("depends on how busy the machine was" in line for line in found.explanation)


def test_a_plan_at_its_work_limit_is_the_same_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the asked gap is out of reach, the best plan so far comes back with its gap, however slow the machine is."""
    forecast, fleet, settings = small(24, 9, mip_gap=1e-9, time_limit_s=1e6)
    monkeypatch.setattr(sys.modules[Search.__module__], "COLUMN_NODES_PER_UNIT", 1)  # the first node is too much
    texts: list[str] = []

    def progress(_done: float, _of: float, text: str, /) -> None:
        texts.append(text)

    idle = plan.solve(forecast, fleet, settings=settings, progress=progress)
    seconds = itertools.count()
    monkeypatch.setattr(sys.modules[Work.__module__], "perf_counter", lambda: 60.0 * next(seconds))
    busy = plan.solve(forecast, fleet, settings=settings)
    assert any(text.startswith("branching") for text in texts)
    assert next(seconds) > 60
    assert (idle.status, busy.status) == ("work_limit", "work_limit")
    assert 0 < idle.gap < 0.05
    assert idle.gap == busy.gap
    assert idle.nodes.equals(busy.nodes)
    assert idle.limits.equals(busy.limits)
    assert idle.explanation == busy.explanation
    assert any("Raise work_limit" in line for line in idle.explanation)


def test_same_seed_same_plan_other_seed_other_paths(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """A plan depends on its inputs and its seed alone."""
    plans = [
        decide(
            Search(build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=48, mip_gap=0.01, seed=seed)))
        )[0]
        for seed in (1, 1, 2)
    ]
    assert (plans[0].nodes == plans[1].nodes).all()
    assert plans[0].result.objective == plans[1].result.objective
    assert plans[0].result.objective != plans[2].result.objective


def tiny_model(objective: float = 1.0, upper: float | None = 5.0) -> pyo.ConcreteModel:
    """One whole number, at least 1.5."""
    model = pyo.ConcreteModel()
    model.x = pyo.Var(domain=pyo.Integers, bounds=(0, upper))
    model.least = pyo.Constraint(expr=2 * model.x >= 3)
    model.cost = pyo.Objective(expr=objective * model.x + 10)
    return model


def test_another_thread_count_in_the_process_does_not_stop_the_solver() -> None:
    """HiGHS refuses to run after another part of the process used other threads; ours runs and says optimal."""
    other = highspy.Highs()
    other.silent()
    other.setOptionValue("threads", 2)
    other.addVar(0, 1)
    other.run()
    answer = Engine(compile_model(tiny_model()), relaxed=False, seed=1).run()
    assert (answer.status, answer.objective) == ("optimal", 12.0)


def test_a_failed_run_is_a_value_without_old_numbers() -> None:
    """Infeasible and unbounded runs give a status and no values, even after a run that had some."""
    form = compile_model(tiny_model())
    engine = Engine(form, relaxed=True, seed=1)
    assert engine.run().objective == pytest.approx(11.5)
    columns = np.array([0], dtype=np.int32)
    engine.bound_columns(columns, np.array([0.0]), np.array([1.0]))
    failed = engine.run()
    assert (failed.status, failed.values, failed.objective) == ("infeasible", None, np.inf)
    engine.bound_columns(columns, form.lower[columns], form.upper[columns])
    assert engine.run().objective == pytest.approx(11.5)
    unbounded = Engine(compile_model(tiny_model(objective=-1.0, upper=None)), relaxed=True, seed=1).run()
    assert (unbounded.status, unbounded.values) == ("unbounded", None)


def test_a_mip_without_incumbent_is_a_value(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """Branching that found nothing in time gives no values and no price, not an exception."""
    from gangplan.plan.model.program import build

    form = compile_model(build(build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=168))))
    answer = Engine(form, relaxed=False, seed=1).run(Work(seconds=0.0))
    assert (answer.status, answer.values, answer.objective) == ("time_limit", None, np.inf)


def test_time_limit_counts_from_each_run(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """An engine's earlier runs do not use up the time of the next: a warm run has enough in less than the first."""
    from gangplan.plan.model.program import build

    form = compile_model(build(build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=168))))
    engine = Engine(form, relaxed=True, seed=1)
    begun = time.perf_counter()
    first = engine.run(Work(seconds=600))
    spent = time.perf_counter() - begun
    engine.bound_columns(np.arange(50, dtype=np.int32), form.lower[:50], form.upper[:50] + 1)
    assert first.status == engine.run(Work(seconds=0.8 * spent)).status == "optimal"


def test_the_solver_prints_nothing(tmp_path: Path) -> None:
    """The command's --json output stays clean: no banner (which HiGHS prints once a process), no log."""
    code = """
import pyomo.environ as pyo
from gangplan.plan.model.algebra import compile_model
from gangplan.plan.solver.highs import Engine, Work
model = pyo.ConcreteModel()
model.x = pyo.Var(domain=pyo.Integers)
model.least = pyo.Constraint(expr=2 * model.x >= 3)
model.cost = pyo.Objective(expr=model.x)
print(Engine(compile_model(model), relaxed=False, seed=1).run().objective)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2.0\n"


def test_a_mip_cut_short_gives_its_incumbent_and_a_bound() -> None:
    """At the time limit the best whole point so far and what is proven come back; nothing is raised."""
    rng = np.random.default_rng(3)
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(50), domain=pyo.Binary)
    model.off = pyo.Var(range(6), bounds=(0, None))
    model.under = pyo.Var(range(6), bounds=(0, None))
    weights = rng.integers(1, 100, (6, 50))
    model.split = pyo.Constraint(  # a market split: a point is easily found, an optimum hardly ever proven
        range(6),
        rule=lambda m, i: (
            sum(int(weights[i, j]) * m.x[j] for j in m.x) + m.under[i] - m.off[i] == int(weights[i].sum() // 2)
        ),
    )
    model.cost = pyo.Objective(expr=1 + sum(model.off[i] + model.under[i] for i in range(6)))
    answer = Engine(compile_model(model), relaxed=False, seed=1).run(Work(seconds=1.0))
    assert answer.status == "time_limit"
    assert answer.values is not None
    assert answer.bound < answer.objective < np.inf


def test_an_unbounded_mip_is_a_value() -> None:
    """HiGHS may call it infeasible or unbounded: it has no values either way, and is never optimal."""
    answer = Engine(compile_model(tiny_model(objective=-1.0, upper=None)), relaxed=False, seed=1).run()
    assert (answer.status, answer.values, answer.objective) == ("unbounded", None, np.inf)


def test_whole_variables_have_duals_when_relaxed_and_none_otherwise() -> None:
    """Duals of whole variables, fixed or not, come from the relaxed engine; a MIP says that it has none."""
    form = compile_model(tiny_model())
    assert Engine(form, relaxed=False, seed=1).run().row_duals is None
    engine = Engine(form, relaxed=True, seed=1)
    free = engine.run()
    assert free.row_duals is not None
    assert free.row_duals[0] == pytest.approx(0.5)  # one more on the right costs half a unit of x
    engine.bound_columns(np.array([0], dtype=np.int32), np.array([2.0]), np.array([2.0]))
    fixed = engine.run()
    assert fixed.column_duals is not None
    assert fixed.column_duals[0] == pytest.approx(1.0)


def test_an_option_that_highs_refuses_is_not_passed_over() -> None:
    """HiGHS answers a refused option with a status alone: ours stops instead of solving something else."""
    with pytest.raises(RuntimeError, match="HiGHS refused mip_rel_gap"):
        Engine(compile_model(tiny_model()), relaxed=False, seed=1, gap=-1.0)


def test_the_time_limit_holds_for_all_solves_together() -> None:
    """The solver's own set-up lies outside its limit, ours does not: a search ends soon after its time is over."""
    problem = instance("M72")
    short = replace(problem, settings=problem.settings.model_copy(update={"time_limit_s": 1.0, "mip_gap": 1e-6}))
    begun = time.process_time()
    search = Search(short)
    built = time.process_time() - begun
    found = search.run(no_progress)
    assert time.process_time() - begun < built + 1.0 + 3.0
    assert found.nodes.min() >= 0


def test_no_other_copy_of_the_solver_comes_along() -> None:
    """HiGHS inside OR-Tools and highspy cannot be in one process: the plan's locked packages hold no OR-Tools."""
    locked = sorted((Path(__file__).resolve().parents[2] / "requirements").glob("*.txt"))
    assert locked
    assert not [file.name for file in locked if "ortools==" in file.read_text()]
