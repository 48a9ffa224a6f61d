"""Forecast and fleet in, plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.answer import Binding, Solution, bent_limits, inputs_of, kept_limits, read_solution, to_plan
from gangplan.plan.model import Model, build
from gangplan.plan.problem import Counts, PlanPolicy, Problem, policy_from, pose
from gangplan.plan.questions import Solved
from gangplan.plan.solver import Search, from_bytes, near_cuts, to_bytes
from gangplan.progress import Progress, no_progress
from gangplan.types import Fleet, Forecast, Plan


def solve(
    forecast: Forecast,
    fleet: Fleet,
    *,
    settings: Settings,
    policy: PlanPolicy | None = None,
    previous: Plan | None = None,
    held: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Find the cheapest fleet that serves the forecast, hour by hour.

    Demand paths are drawn from the quantiles with `settings.seed`; the horizon is `settings.horizon_hours` or what the
    forecast has. Changes against the `previous` plan have a price; `held` are nodes by pool and hour that reservations
    stand on, which run in any case. The plan always comes back: its `status` is "optimal" (proven within
    `settings.mip_gap`) or "time_limit" (the best found in `settings.time_limit_s`, its `gap` proven), and what could
    not be served is in it.

    Raises
    ------
    InputError
        The forecast has gaps or numbers that are none, a pool's lead time is longer than the horizon, or a quota is
        more than the fleet has.
    """
    problem = pose(forecast, fleet, settings, policy=policy, previous=previous, held=held)
    search = Search(problem)
    solution, bindings = _decide(search, progress)
    inputs = inputs_of(problem.policy, previous, held)
    warm_start = to_bytes(near_cuts(search.decomposition))
    plan = replace(to_plan(forecast, solution, bindings, inputs), warm_start=warm_start)
    progress(1.0, 1, f"plan {plan.plan_id}, cost {plan.total_cost:,.0f}, gap {plan.gap:.2%}")
    return plan


def decide(problem: Problem, progress: Progress = no_progress) -> tuple[Solution, list[Binding]]:
    """Build, search, and ask what one more unit of each limit would bring."""
    return _decide(Search(problem), progress)


def _decide(search: Search, progress: Progress) -> tuple[Solution, list[Binding]]:
    """Search and explain."""
    problem, settings = search.problem, search.problem.settings
    progress(0.0, 1, f"{len(problem.periods)} periods, {len(problem.pools)} pools, {settings.scenarios} demand paths")
    found = search.run(progress)
    solution = read_solution(problem, search.decomposition, found)
    progress(0.9, 1, f"plan {found.objective:,.0f}, gap {found.gap:.2%}: asking what one more unit would bring")
    return solution, [*bent_limits(solution), *kept_limits(solution, search)]


def pose_again(plan: Plan, forecast: Forecast, previous: Plan | None, settings: Settings) -> Problem:
    """Put the problem that a plan was solved from together again, from what is kept with it."""
    solved_with = settings.model_copy(update={**plan.settings, "seed": plan.seed})
    chosen = settings.model_validate(solved_with.model_dump())
    policy = policy_from(plan.inputs.get("policy", {}))
    return pose(forecast, plan.fleet, chosen, policy=policy, previous=previous, held=plan.inputs.get("held"))


def warm_up(plan: Plan, problem: Problem) -> Solved:
    """Take a plan up again for questions: its nodes, priced and bounded anew from what it left for that."""
    return Solved.from_nodes(problem, nodes_of(plan, problem), from_bytes(plan.warm_start))


def nodes_of(plan: Plan, problem: Problem) -> Counts:
    """Return a plan's nodes by the problem's pools and periods."""
    place = {pool.name: p for p, pool in enumerate(problem.pools)}
    first = {int(hour): t for t, hour in enumerate(problem.periods.starts)}
    nodes = np.zeros((len(problem.pools), len(problem.periods)), dtype=np.int64)
    for hour, pool, count in plan.nodes.iter_rows():
        t = first.get(round((hour - problem.start).total_seconds() / 3600))
        if t is not None:
            nodes[place[pool], t] = count
    return nodes


def replay(forecast: Forecast, fleet: Fleet, *, settings: Settings) -> tuple[Plan, Forecast]:
    """Return the plan that would have been made from an old forecast, and that forecast."""
    return solve(forecast, fleet, settings=settings), forecast


def write_lp(forecast: Forecast, fleet: Fleet, path: Path, *, settings: Settings) -> Path:
    """Write the plan's model as an LP file, for other solvers and for readers."""
    if path.suffix != ".lp":
        raise InputError("lp", path, "must end in .lp")
    model: Model = build(pose(forecast, fleet, settings))
    path.parent.mkdir(parents=True, exist_ok=True)
    model.write(str(path), io_options={"symbolic_solver_labels": True})
    return path
