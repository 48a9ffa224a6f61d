"""The plan beside the rules that people use instead, on fresh demand paths: fleets fixed, the same recourse for all.

Counted is what is paid and what is missed: money for nodes, and shortage and delay at their prices. The prices of
reserves and of starts are left out. Minimum nodes run, and lead times hold, under every rule. Where the fleet file
gives start-up times as a distribution, each start of every rule draws its own: late nodes serve later, early ones are
paid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gangplan.plan.problem import Counts, Problem, arrivals
from gangplan.plan.solver import Array, Paths, Priced, Search, mend
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
    """What a way to run the fleet costs on fresh paths: the mean, the 5 % best and 95 % worst, and who goes unserved.

    `difference` is its mean cost less the plan's on the same paths, `range` the half width of that at 95 %. `carbon_kg`
    is what its nodes emit in the mean.
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
    """Run the plan and its alternatives over fresh paths."""
    fresh = problem.drawn_again(FRESH_PATHS, problem.settings.seed + FRESH_SEED)
    paths = Paths(fresh)
    fleets = {
        PLAN: lambda: nodes,
        MEAN: lambda: mean_plan(problem),
        GREEDY: lambda: greedy(problem, problem.demand.mean(axis=0)),
        REACTIVE: lambda: np.stack([reactive(fresh, path) for path in fresh.demand]),
        PEAK: lambda: static_peak(problem, problem.demand.mean(axis=0)),
        PEAK_95: lambda: static_peak(problem, np.quantile(fresh.demand, 0.95, axis=0)),
    }
    costs: dict[str, Array] = {}
    found: list[Alternative] = []
    for at, (name, fleet) in enumerate(fleets.items()):
        progress(at / len(fleets), 1, f"beside the plan on {FRESH_PATHS} fresh paths: {name}")
        run = fleet()
        arrived, early = arrivals(fresh.pools, fresh.now, run, fresh.periods, fresh.prices, seed=FRESH_SEED)
        priced = paths.price(arrived)
        assert priced is not None  # noqa: S101 - there is no time limit
        costs[name] = priced.costs + _money(fresh, run) + early
        found.append(_alternative(name, costs[name], costs[PLAN], paths, priced, _carbon(fresh, run)))
    return tuple(found)


def mean_plan(problem: Problem) -> Counts:
    """Plan for the mean demand and supply as if they were certain."""
    mean = {"paths": problem.paths.mean(axis=0, keepdims=True), "supply": problem.supply.mean(axis=0, keepdims=True)}
    settings = problem.settings.model_copy(update={"scenarios": 1})
    return Search(replace(problem, settings=settings, **mean)).run(no_progress).nodes


def greedy(problem: Problem, demand: Array) -> Counts:
    """Serve each period's demand with the cheapest nodes, latency work first; lead times aside from the start."""
    usable, room = problem.usable_gpus, problem.usable_gpus[:, None] * np.ones(len(problem.periods))
    room = room * np.array([[pool.max_nodes] for pool in problem.pools])
    used = np.zeros_like(room)
    rank = list(WorkloadClass)
    price = problem.prices.mean(axis=1) / np.maximum(usable, 1e-9)
    for w in sorted(range(len(problem.workloads)), key=lambda w: rank.index(problem.workloads[w].workload_class)):
        left = demand[w].copy()
        homes = [(p, problem.speed(w, g)) for g in problem.served_by[w] for p in problem.groups[g].pools]
        for p, speed in sorted(homes, key=lambda home: price[home[0]] / home[1]):
            taken = np.minimum(left / speed, room[p] - used[p])
            used[p] += taken
            left -= taken * speed
    return mend(problem, np.ceil(used / np.maximum(usable[:, None], 1e-9) - 1e-9).astype(np.int64))


def reactive(problem: Problem, path: Array) -> Counts:
    """Run what the last period asked for and a tenth more, each pool's nodes coming after its lead time."""
    wanted = greedy(problem, REACTIVE_MARGIN * path)
    nodes = wanted.copy()
    for p, pool in enumerate(problem.pools):
        seen = [problem.periods.first_after(max(0, int(s) - pool.lead_time_hours)) - 1 for s in problem.periods.starts]
        nodes[p] = [wanted[p, t] if t >= 0 else problem.now[p] for t in seen]
    return mend(problem, nodes)


def static_peak(problem: Problem, demand: Array) -> Counts:
    """Run through the whole horizon what the peak of a demand asks for."""
    peak = greedy(problem, np.repeat(demand.max(axis=1, keepdims=True), demand.shape[1], axis=1))
    return mend(problem, np.repeat(peak.max(axis=1, keepdims=True), peak.shape[1], axis=1))


def _money(problem: Problem, run: Counts) -> Array:
    """Money for the nodes, for all paths or for each."""
    fleets = run if run.ndim == 3 else run[None]
    return np.array([problem.money(fleet).sum() for fleet in fleets])


def _carbon(problem: Problem, run: Counts) -> float:
    """Kilograms that the nodes emit, in the mean where they differ by path."""
    return float((run * problem.carbon @ np.array(problem.periods.lengths, dtype=float)).sum(axis=-1).mean())


def _alternative(name: str, costs: Array, plan: Array, paths: Paths, priced: Priced, carbon: float) -> Alternative:
    """Sum up what it cost and whom it left unserved."""
    problem = paths.problem
    lengths = np.array(problem.periods.lengths, dtype=float)
    short = np.stack(priced.values)[:, paths.short].reshape(problem.demand.shape) @ lengths
    asked = problem.demand @ lengths
    latency = [w for w, load in enumerate(problem.workloads) if load.workload_class is WorkloadClass.LATENCY]
    difference = costs - plan
    return Alternative(
        name=name,
        mean=float(costs.mean()),
        best=float(np.quantile(costs, 0.05)),
        worst=float(np.quantile(costs, 0.95)),
        difference=float(difference.mean()),
        range=float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference))),
        unserved=_share(short.sum(), asked.sum()),
        latency_unserved=_share(short[:, latency].sum(), asked[:, latency].sum()),
        carbon_kg=carbon,
    )


def _share(part: float, whole: float) -> float:
    """Return a part of a whole; none of nothing."""
    return float(part / whole) if whole > 0 else 0.0
