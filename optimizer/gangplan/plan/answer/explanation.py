"""The plan in sentences: what it costs, what changes, who is short when and why, what one more unit would bring."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from gangplan.plan.answer.schedule import order_of, order_text
from gangplan.plan.answer.solution import NEARLY, TOLERANCE, Binding, Solution
from gangplan.plan.problem import Problem, counts_by_grid
from gangplan.types import ANY, SERIES, Plan, Pool, WorkloadClass

_SOON = 24  # hours for which changes and orders are listed
_MOST_ORDERS = 5  # `gangplan plan orders` lists all
_MOST_KEPT = 5
_KEPT = ("maximum_nodes", "lead_time", "budget")
_EGRESS = "Data that leaves its region costs {:,.0f} in the mean, beside the nodes."
_POWER = "Electricity costs {:,.0f} in the mean, beside the nodes."
_CAPS = "Caps save {:,.0f} kWh in the mean, as their curves were measured."
_BENT = {
    "over_budget": "The plan spends {0.amount:,.0f} over the budget{why}.",
    "carbon_cap": "The plan emits {0.amount:,.0f} kg of CO2 over the carbon cap of {cap:,.0f} kg.",
    "latency_reserve": "The latency reserve on {0.name} lacks {0.amount:,.1f} GPU-hours, in {0.hours} h.",
    "zone_reserve": "Were a zone lost, {0.name} would lack {0.amount:,.0f} GPU-hours for latency work, in {0.hours} h.",
    "minimum_nodes": (
        "{0.name} is {0.amount:,.0f} node-hours below its minimum, in {0.hours} h: its lead time is not over."
    ),
}


def sentences(solution: Solution, bindings: list[Binding]) -> tuple[str, ...]:
    """Explain a plan in sentences, the most important first."""
    kept = sorted((limit for limit in bindings if limit.family in _KEPT), key=lambda limit: -limit.cost)
    return (
        _summary(solution),
        _proof(solution),
        *_changes(solution),
        *_orders(solution),
        *([_EGRESS.format(solution.egress)] if solution.egress >= 0.5 else []),
        *([_POWER.format(solution.electricity)] if solution.electricity >= 0.5 else []),
        *([_CAPS.format(solution.kwh_saved)] if solution.kwh_saved >= 0.5 else []),
        *_grids(solution.problem),
        *_shortages(solution),
        *(_bent(limit, solution) for limit in bindings if limit.family in _BENT),
        *(_kept(limit, solution) for limit in kept[:_MOST_KEPT]),
    )


def explain(plan: Plan) -> str:
    """Return a plan's explanation as lines of text: the sentences, then the shortage of each series."""
    lines = [f"Plan {plan.plan_id}", *plan.explanation]
    short = plan.shortage.filter(plan.shortage["expected_gpus"] > TOLERANCE)
    if not short.is_empty():
        lines.append("Short by series (expected GPU-hours; hours with any; worst 5 % GPUs; highest probability):")
    for name, rows in short.group_by(SERIES, maintain_order=True):
        label = "/".join(str(part) for part in name)
        lines.append(
            f"  {label}: {rows['expected_gpus'].sum():,.0f}; {rows.height}; "
            f"{rows['p95_gpus'].max():,.0f}; {rows['probability'].max():.0%}"
        )
    return "\n".join(lines)


def _summary(solution: Solution) -> str:
    """Return the cost, by pool."""
    problem, total = solution.problem, float(solution.cost.sum())
    by_cost = sorted(zip(solution.cost.tolist(), problem.pools, strict=True), key=lambda pair: -pair[0])
    parts = ", ".join(f"{pool.name} {cost:,.0f}" for cost, pool in by_cost if cost > 0)
    where = f" ({parts})" if parts else ""
    limit = problem.settings.budget
    budget = "" if limit is None else f", of a budget of {limit:,.0f}"
    return f"The fleet costs {total:,.0f}{where} over {problem.periods.hours} h from {_at(problem.start)}{budget}."


def _proof(solution: Solution) -> str:
    """Return how good the plan is proven to be."""
    result, settings = solution.result, solution.problem.settings
    base = f"{settings.scenarios} demand paths, seed {settings.seed}, by {result.method}"
    if result.status == "optimal":
        return f"Proven within {result.gap:.2%} of the cheapest plan for {base}."
    kept = ""
    if result.bound == -np.inf:
        last = (solution.problem.previous >= 0).any()
        kept = " The last plan goes on, within today's limits." if last else " The nodes that run now are kept."
    open_ = f"a plan up to {result.gap:.1%} cheaper may exist for {base}.{kept}"
    if result.status == "time_limit":
        return (
            f"The time limit of {settings.time_limit_s:g} s ended the search before its work was done, so this plan "
            f"depends on how busy the machine was; {open_} Raise time_limit_s, or solve again on a quieter machine."
        )
    return f"The work limit of {settings.work_limit:g} ended the search; {open_} Raise work_limit to search on."


def _changes(solution: Solution) -> list[str]:
    """Return what changes against the nodes that run now, in the first hour and in the next day."""
    problem = solution.problem
    first = [
        f"{pool.name} {now} -> {nodes}"
        for pool, now, nodes in zip(problem.pools, problem.now, solution.nodes[:, 0].tolist(), strict=True)
        if nodes != now
    ]
    soon = solution.nodes[:, : problem.periods.first_after(_SOON)]
    later = [
        f"{pool.name} between {low} and {high}"
        for pool, low, high in zip(problem.pools, soon.min(axis=1).tolist(), soon.max(axis=1).tolist(), strict=True)
        if low != high
    ]
    now = f"Now: {', '.join(first)} nodes; the other pools stay." if first else "Now: every pool stays as it is."
    return [now, f"In the next {_SOON} h: {', '.join(later)} nodes."] if later else [now]


def _orders(solution: Solution) -> list[str]:
    """Return which starts of the next day must be ordered ahead, and when, by time."""
    problem = solution.problem
    ahead = problem.periods.first_after(_SOON)
    steps = np.diff(solution.nodes, axis=1, prepend=np.array(problem.now)[:, None])[:, :ahead]
    orders = [
        order_of(pool, int(steps[p, t]), problem.start + timedelta(hours=int(problem.periods.starts[t])))
        for p, pool in enumerate(problem.pools)
        for t in range(ahead)
        if pool.lead_time_hours and steps[p, t] > 0
    ]
    orders.sort(key=lambda order: (order.order_at, order.pool))
    more = [f"{len(orders) - _MOST_ORDERS} more starts: `gangplan plan orders`."] if len(orders) > _MOST_ORDERS else []
    return [*map(order_text, orders[:_MOST_ORDERS]), *more]


def _grids(problem: Problem) -> list[str]:
    """Return where the carbon of each region's grid comes from, and from when on a series is only typical."""
    used = {
        pool.region for pool in problem.pools if pool.power_kw_per_node and counts_by_grid(pool, problem.policy.grid)
    }
    end = problem.start + timedelta(hours=problem.periods.hours - 1)
    said: list[str] = []
    for region, series in sorted(problem.policy.grid.items()):
        if region in used:
            later = bool(series.hourly) and not series.known(end)
            beyond = "; hours that it lacks are the mean of their hour of the day" if later else ""
            said.append(f"Carbon of {region}: {series.source}{beyond}.")
    return said


def _shortages(solution: Solution) -> list[str]:
    """Return who is short, when and why, the largest shortage first; or that nobody is."""
    largest = np.argsort(-solution.short_gpu_hours)
    short = [_shortage(solution, int(w)) for w in largest if solution.short_gpu_hours[w] > TOLERANCE]
    return short or ["Nobody is short on any of the demand paths."]


def _shortage(solution: Solution, w: int) -> str:
    """Describe one workload's shortage: tenants, class, accelerator, how much, when, why."""
    problem, periods = solution.problem, solution.problem.periods
    workload, lengths = problem.workloads[w], np.array(periods.lengths)
    short = solution.expected_short[w]
    hours, amount = int(lengths[short > 0].sum()), float(short @ lengths)
    share = amount / float(problem.demand[:, w].mean(axis=0) @ lengths)
    part = f"{share:.1%}" if share >= 0.001 else "under 0.1%"
    worst, most = int(solution.short[:, w].max(axis=0).argmax()), float(solution.short[:, w].max())
    at = problem.start + timedelta(hours=int(periods.starts[worst]))
    tenants = sorted({series[0] for series, home in zip(problem.series, problem.workload_of, strict=True) if home == w})
    return (
        f"Short: {workload.workload_class} work of {', '.join(tenants)} on {workload.accelerator} lacks "
        f"{amount:,.1f} GPU-hours in the mean ({part} of its demand), in {hours} of {periods.hours} h; "
        f"at worst {most:,.0f} {'GPU' if round(most) == 1 else 'GPUs'} at {_at(at)}: {_reasons(solution, w)}."
    )


def _reasons(solution: Solution, w: int) -> str:
    """Return why a workload is short, each reason with its share of the GPU-hours, the largest first."""
    lengths = np.array(solution.problem.periods.lengths)
    short = solution.expected_short[w] * lengths
    weight: dict[str, float] = {}
    for t in np.flatnonzero(short):
        reason = _reason(solution, w, int(t))
        weight[reason] = weight.get(reason, 0.0) + float(short[t])
    ranked = sorted(weight.items(), key=lambda pair: -pair[1])[:3]
    return "; ".join(
        f"{reason} ({amount / short.sum():.0%})" if len(weight) > 1 else reason for reason, amount in ranked
    )


def _reason(solution: Solution, w: int, t: int) -> str:
    """Return why a workload is short in one period."""
    problem = solution.problem
    able = [p for g in problem.served_by[w] for p in problem.groups[g].pools]
    if not able:
        return _no_pool(solution, w)
    full = [p for p in able if solution.nodes[p, t] >= problem.pools[p].max_nodes]
    late = [p for p in able if p not in full and problem.periods.starts[t] < problem.pools[p].lead_time_hours]
    if ceiling := _quota(solution, w, t):
        return ceiling
    if len(full) + len(late) == len(able):
        return _all_in_use([problem.pools[p] for p in full], [problem.pools[p] for p in late])
    return _too_expensive(solution, w)


def _quota(solution: Solution, w: int, t: int) -> str:
    """Return that a quota is used up, if it is on a path on which the workload is short."""
    short = solution.short[:, w, t] > TOLERANCE
    for ceiling in solution.problem.ceilings:
        if w in ceiling.workloads and set(ceiling.groups) & set(solution.problem.served_by[w]):
            routes = [(v, g) for v in ceiling.workloads for g in ceiling.groups if (v, g) in solution.serve]
            used = sum((solution.serve[route][:, t] for route in routes), np.zeros(short.size))
            if (used[short] >= NEARLY * ceiling.gpus).any():
                return f"the quota {ceiling.name} of {ceiling.gpus:g} GPUs is used up"
    return ""


def _no_pool(solution: Solution, w: int) -> str:
    """Return that no pool may serve a workload, and what would help."""
    workload, problem = solution.problem.workloads[w], solution.problem
    spot = [g.accelerator for g in problem.groups if g.spot and workload.accelerator in (ANY, g.accelerator)]
    if spot and workload.workload_class is WorkloadClass.LATENCY:
        return "only spot pools have that accelerator, and latency work may not be interrupted: add a firm pool"
    if workload.accelerator in problem.policy.needs:
        able = ", ".join(problem.policy.speeds.get(workload.accelerator, {}))
        return f"no pool meets the need {workload.accelerator}: add one with {able}"
    return f"no pool has the accelerator {workload.accelerator}: add one to the fleet"


def _all_in_use(full: list[Pool], late: list[Pool]) -> str:
    """Return that pools run all the nodes that they may, or that new ones are still on their way."""
    at_most = ", ".join(f"{pool.name} (max_nodes {pool.max_nodes})" for pool in full)
    coming = ", ".join(f"{pool.name} (lead time {pool.lead_time_hours} h)" for pool in late)
    parts = [f"{at_most} {'runs' if len(full) == 1 else 'run'} all the nodes allowed"] if full else []
    return " and ".join([*parts, f"new nodes are still on their way for {coming}"] if late else parts)


def _too_expensive(solution: Solution, w: int) -> str:
    """Return that money is the reason: the budget, or a peak too rare to be worth its nodes."""
    problem, spent = solution.problem, float(solution.cost.sum())
    if problem.budget is not None and spent >= NEARLY * problem.budget:
        return f"the budget of {problem.settings.budget:,.0f} is spent"
    if solution.result.status != "optimal":
        return "the time limit ended the search before nodes for it were planned"
    price = problem.settings.shortage_price * problem.class_policies[w].shortage_factor
    return f"peaks this rare cost less at the shortage price of {price:g} per GPU-hour than the nodes to cover them"


def _bent(limit: Binding, solution: Solution) -> str:
    problem, least = solution.problem, solution.problem.unavoidable_cost
    why = f" (the minimum nodes alone cost {least:,.0f})" if least > (problem.settings.budget or 0) else ""
    return _BENT[limit.family].format(limit, why=why, cap=problem.policy.carbon_cap_kg or 0.0)


def _kept(limit: Binding, solution: Solution) -> str:
    """Describe what one more unit of a limit would bring."""
    served = f", and serve {limit.relief:,.1f} GPU-hours more" if limit.relief >= 0.05 else ""
    effect = f"would save {limit.cost:,.0f}, shortage prices included{served} (re-solved)"
    if limit.family == "maximum_nodes":
        most = solution.problem.fleet.pool(limit.name).max_nodes
        return f"{limit.name} runs all its {most} nodes in {limit.hours} h: one more {effect}."
    if limit.family == "lead_time":
        return f"{limit.name} takes {limit.hours} h for new nodes: having them at once {effect}."
    return f"The budget holds the plan back: {limit.amount:,.0f} more {effect}."


def _at(moment: datetime) -> str:
    return f"{moment:%a %d %b %H:%M} UTC"
