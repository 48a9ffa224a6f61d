"""Forecast and fleet in, plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gangplan.config import Settings
from gangplan.plan.answer import Binding, Solution, bent_limits, inputs_of, kept_limits, read_solution, to_plan
from gangplan.plan.problem import PlanPolicy, Problem, build_problem, policy_from
from gangplan.plan.solver import Search, cuts_to_bytes
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

    Demand paths are drawn from the quantiles with `settings.seed`; the horizon is `settings.horizon_hours`, or as long
    as the forecast. Changes against the `previous` plan have a price. `held` are nodes by pool and hour that
    reservations use; they run in any case. There always is a plan: its `status` is "optimal" (proven within
    `settings.mip_gap`) or "work_limit" (the best one found with `settings.work_limit`, with a proven `gap`), and it
    says what could not be served. What a search does is counted, so the same inputs give the same plan on every
    machine, however busy. Where `settings.time_limit_s` comes first, the status is "time_limit", and the plan says so.

    Raises
    ------
    InputError
        The forecast has gaps or values that are no numbers, a pool's lead time is longer than the horizon, or a quota
        is more than the fleet has.
    """
    problem = build_problem(forecast, fleet, settings, policy=policy, previous=previous, held=held)
    search = Search(problem)
    solution, bindings = decide(search, progress)
    inputs = inputs_of(problem.policy, previous, held)
    plan = to_plan(forecast, solution, bindings, inputs)
    plan = replace(plan, warm_start=cuts_to_bytes(search.decomposition.near_cuts()))
    progress(1.0, 1, f"plan {plan.plan_id}, cost {plan.total_cost:,.0f}, gap {plan.gap:.2%}")
    return plan


def decide(search: Search, progress: Progress = no_progress) -> tuple[Solution, list[Binding]]:
    """Search, then find what one more unit of each limit would bring."""
    problem, settings = search.problem, search.problem.settings
    progress(0.0, 1, f"{len(problem.periods)} periods, {len(problem.pools)} pools, {settings.scenarios} demand paths")
    result = search.run(progress)
    solution = read_solution(problem, search.decomposition, result)
    progress(0.9, 1, f"plan {result.objective:,.0f}, gap {result.gap:.2%}: asking what one more unit would bring")
    return solution, [*bent_limits(solution), *kept_limits(solution, search)]


def rebuild_problem(plan: Plan, forecast: Forecast, previous: Plan | None, settings: Settings) -> Problem:
    """Build the problem that a plan was solved from again, from what is kept with the plan."""
    solved_with = settings.model_copy(update={**plan.settings, "seed": plan.seed})
    checked = settings.model_validate(solved_with.model_dump())
    policy = policy_from(plan.inputs.get("policy", {}))
    return build_problem(forecast, plan.fleet, checked, policy=policy, previous=previous, held=plan.inputs.get("held"))


def replay(forecast: Forecast, fleet: Fleet, *, settings: Settings) -> tuple[Plan, Forecast]:
    """Return the plan that would have been made from an old forecast, and that forecast."""
    return solve(forecast, fleet, settings=settings), forecast
