"""The plan compared with simpler rules on new scenarios: each rule's fleet is fixed, the second stage is the same.

What counts is the money for nodes, and shortage and delay at their prices; the prices of reserves and of starts do not
count. Every rule runs the minimum nodes and keeps lead times. Where the fleet file has start-up times, each start draws
its own: late nodes serve later, early nodes are paid for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gangplan.plan.problem import Array, Counts, Problem, arrivals
from gangplan.plan.solver import RecoursePrograms, RecourseResult, Search, repair
from gangplan.progress import Progress, no_progress
from gangplan.types import WorkloadClass

FRESH_PATHS = 40
FRESH_SEED = 10_007
REACTIVE_MARGIN = 1.1
PLAN, MEAN, GREEDY, REACTIVE, PEAK, PEAK_95 = (
    "this plan",
    "plan for the mean demand",
    "cheapest first, mean demand",
    "reactive: last period + 10 %",
    "static: peak of the mean",
    "static: peak of 95 %",
)


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """What a rule for running the fleet costs on new scenarios, and the shares of demand that it leaves unserved.

    `best` and `worst` are the 5 % and 95 % quantiles of its cost. `difference` is its mean cost minus the plan's on the
    same paths, `range` the half width of the 95 % interval of that. `carbon_kg` is what its nodes emit on average.
    """

    name: str
    mean: float
    best: float
    worst: float
    difference: float
    range: float
    unserved: float
    latency_unserved: float
    carbon_kg: float


def compare(problem: Problem, nodes: Counts, progress: Progress = no_progress) -> tuple[Alternative, ...]:
    """Evaluate a plan, by its nodes, and its alternatives on the same new scenarios."""
    fresh = problem.with_fresh_paths(FRESH_PATHS, problem.settings.seed + FRESH_SEED)
    programs = RecoursePrograms(fresh)
    fleets = {
        PLAN: lambda: nodes,
        MEAN: lambda: mean_plan(problem),
        GREEDY: lambda: greedy(problem, problem.demand.mean(axis=0)),
        REACTIVE: lambda: np.stack([reactive(fresh, path) for path in fresh.demand]),
        PEAK: lambda: static_peak(problem, problem.demand.mean(axis=0)),
        PEAK_95: lambda: static_peak(problem, np.quantile(fresh.demand, 0.95, axis=0)),
    }
    alternatives: list[Alternative] = []
    plan_costs = np.zeros(FRESH_PATHS)
    for index, (name, make_fleet) in enumerate(fleets.items()):
        progress(index / len(fleets), 1, f"beside the plan on {FRESH_PATHS} fresh paths: {name}")
        ordered = make_fleet()
        running, early = arrivals(fresh.pools, fresh.now, ordered, fresh.periods, fresh.prices, seed=FRESH_SEED)
        recourse = programs.price(running)
        assert recourse is not None  # noqa: S101 - there is no time limit
        by_path = ordered if ordered.ndim == 3 else ordered[None]  # one fleet for all paths, or one for each
        costs = recourse.costs + np.array([_paid(fresh, fleet) for fleet in by_path]) + early
        plan_costs = costs if name == PLAN else plan_costs
        alternatives.append(_alternative(name, costs, plan_costs, programs, recourse, ordered))
    return tuple(alternatives)


def _paid(problem: Problem, nodes: Counts) -> float:
    """Return the money for nodes and for the power that they draw, whatever they do."""
    return float(problem.money(nodes).sum() + problem.electricity @ nodes @ np.array(problem.periods.lengths))


def mean_plan(problem: Problem) -> Counts:
    """Plan for the mean demand and supply as if they were certain."""
    mean = {"paths": problem.paths.mean(axis=0, keepdims=True), "supply": problem.supply.mean(axis=0, keepdims=True)}
    settings = problem.settings.model_copy(update={"scenarios": 1})
    return Search(replace(problem, settings=settings, **mean)).run(no_progress).nodes


def greedy(problem: Problem, demand: Array) -> Counts:
    """Serve each period's demand with the cheapest nodes, latency work first; the result keeps lead times."""
    usable = problem.usable_gpus
    room = usable[:, None] * np.ones(len(problem.periods)) * np.array([[pool.max_nodes] for pool in problem.pools])
    used = np.zeros_like(room)
    rank = list(WorkloadClass)
    price = problem.prices.mean(axis=1) / np.maximum(usable, 1e-9)
    for w in sorted(range(len(problem.workloads)), key=lambda w: rank.index(problem.workloads[w].workload_class)):
        left = demand[w].copy()
        able = [(p, problem.speed(w, g)) for g in problem.served_by[w] for p in problem.groups[g].pools]
        for p, speed in sorted(able, key=lambda pair: price[pair[0]] / pair[1]):
            taken = np.minimum(left / speed, room[p] - used[p])
            used[p] += taken
            left -= taken * speed
    return repair(problem, np.ceil(used / np.maximum(usable[:, None], 1e-9) - 1e-9).astype(np.int64))


def reactive(problem: Problem, path: Array) -> Counts:
    """Run what the last period needed and 10 % more; each pool's nodes come after its lead time."""
    wanted = greedy(problem, REACTIVE_MARGIN * path)
    nodes = wanted.copy()
    for p, pool in enumerate(problem.pools):
        seen = [problem.periods.first_after(max(0, int(s) - pool.lead_time_hours)) - 1 for s in problem.periods.starts]
        nodes[p] = [wanted[p, t] if t >= 0 else problem.now[p] for t in seen]
    return repair(problem, nodes)


def static_peak(problem: Problem, demand: Array) -> Counts:
    """Run over the whole horizon what the peak of a demand needs."""
    peak = greedy(problem, np.repeat(demand.max(axis=1, keepdims=True), demand.shape[1], axis=1))
    return repair(problem, np.repeat(peak.max(axis=1, keepdims=True), peak.shape[1], axis=1))


def _alternative(
    name: str, costs: Array, plan: Array, programs: RecoursePrograms, recourse: RecourseResult, run: Counts
) -> Alternative:
    problem = programs.problem
    lengths = np.array(problem.periods.lengths, dtype=float)
    short = programs.short_gpus(recourse) @ lengths
    demand = problem.demand @ lengths
    latency = [w for w, load in enumerate(problem.workloads) if load.workload_class is WorkloadClass.LATENCY]
    difference = costs - plan
    return Alternative(
        name=name,
        mean=float(costs.mean()),
        best=float(np.quantile(costs, 0.05)),
        worst=float(np.quantile(costs, 0.95)),
        difference=float(difference.mean()),
        range=float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference))),
        unserved=_share(short.sum(), demand.sum()),
        latency_unserved=_share(short[:, latency].sum(), demand[:, latency].sum()),
        carbon_kg=programs.carbon_kg(recourse, run),
    )


def _share(part: float, whole: float) -> float:
    """Return a part's share of the whole; 0 if there is no whole."""
    return float(part / whole) if whole > 0 else 0.0
