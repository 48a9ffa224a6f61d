"""Forecast and fleet in, plan out."""

from __future__ import annotations

from pathlib import Path

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.handover import compile_model
from gangplan.plan.limits import Binding, bent_limits, kept_limits
from gangplan.plan.model import Model, build
from gangplan.plan.problem import Problem, pose
from gangplan.plan.result import to_plan
from gangplan.plan.search import Search
from gangplan.plan.solution import Solution, read_solution
from gangplan.progress import Progress, no_progress
from gangplan.types import Fleet, Forecast, Plan


def solve(forecast: Forecast, fleet: Fleet, *, settings: Settings, progress: Progress = no_progress) -> Plan:
    """Find the cheapest fleet that serves the forecast, hour by hour.

    Demand paths are drawn from the quantiles with `settings.seed`; the horizon is `settings.horizon_hours` or what the
    forecast has. The plan always comes back: its `status` is "optimal" (proven within `settings.mip_gap`) or
    "time_limit" (the best found in `settings.time_limit_s`, its `gap` proven), and what could not be served is in it.

    Raises
    ------
    InputError
        The forecast has gaps or numbers that are none, or a pool's lead time is longer than the horizon.
    """
    problem = pose(forecast, fleet, settings)
    solution, bindings = decide(problem, progress)
    plan = to_plan(forecast, solution, bindings)
    progress(1.0, 1, f"plan {plan.plan_id}, cost {plan.total_cost:,.0f}, gap {plan.gap:.2%}")
    return plan


def decide(problem: Problem, progress: Progress = no_progress) -> tuple[Solution, list[Binding]]:
    """Build, search, and ask what one more unit of each limit would bring."""
    settings = problem.settings
    progress(0.0, 1, f"{len(problem.periods)} periods, {len(problem.pools)} pools, {settings.scenarios} demand paths")
    model = build(problem)
    form = compile_model(model)
    progress(0.2, 1, f"{form.matrix.shape[0]:,} rows, {form.matrix.shape[1]:,} columns")
    search = Search(problem, model, form)
    found = search.run(progress)
    solution = read_solution(problem, model, form, found)
    progress(0.9, 1, f"plan {found.objective:,.0f}, gap {found.gap:.2%}: asking what one more unit would bring")
    return solution, [*bent_limits(solution), *kept_limits(solution, search, model)]


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
