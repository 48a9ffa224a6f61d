"""The first stage, decided before demand is known: nodes, starts and stops, commitments, reserves, money, carbon.

One `define_*` for each constraint family; symbols and units are those of docs/plan.md. Indices: p pool, t period. A
limit that may be bent has a slack variable with a price instead of a large constant (big M), so that the program
always has a solution.
"""

from __future__ import annotations

from typing import Any

from gangplan.plan.model.algebra import Expression, Model, constraint, expression, variable
from gangplan.plan.problem import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR, Array, Problem

STEADY_HOURS = 24
"""For how many hours ahead changes against the last plan have a price. Raised: plans change less, and cost more."""


def define_fleet(model: Model, problem: Problem) -> None:
    """Nodes (whole numbers up to the pool's maximum), and nodes started and stopped as a period begins.

    A start is counted in the period in which the node is up; there are none before the lead time. Starts are whole
    numbers without being declared so, because nodes are.
    """
    pools, starts = problem.pools, problem.periods.starts
    model.nodes = variable(model.P, model.T, whole=True, bounds=lambda _, p, t: (0, max(pools[p].max_nodes, 0)))
    model.start = variable(
        model.P, model.T, bounds=lambda _, p, t: (0, None if starts[t] >= pools[p].lead_time_hours else 0)
    )
    model.stop = variable(model.P, model.T)


def define_node_balance(model: Model, problem: Problem) -> None:
    """nodes[t] = nodes[t-1] + started - stopped, from the nodes that run now."""

    def balance(m: Model, p: int, t: int) -> Expression:
        before = m.nodes[p, t - 1] if t else problem.now[p]
        return m.nodes[p, t] - before == m.start[p, t] - m.stop[p, t]

    model.node_balance = constraint(model.P, model.T, rule=balance)


def define_minimum_up(model: Model, problem: Problem) -> None:
    """A node that was started less than the pool's minimum time ago still runs."""
    pools, starts = problem.pools, problem.periods.starts
    bound = [p for p, pool in enumerate(pools) if pool.minimum_up_hours > 0]

    def minimum_up(m: Model, p: int, t: int) -> Expression:
        recent = [s for s in range(t + 1) if starts[s] + pools[p].minimum_up_hours > starts[t]]
        return sum(m.start[p, s] for s in recent) <= m.nodes[p, t]

    model.minimum_up = constraint(bound, model.T, rule=minimum_up)


def define_minimum_nodes(model: Model, problem: Problem) -> None:
    """A pool runs its minimum and the nodes that reservations use, or lacks nodes at a price (new ones take time)."""
    model.minimum_pools = [p for p in model.P if problem.least[p].any()]
    model.below_minimum = variable(model.minimum_pools, model.T)
    model.minimum_nodes = constraint(
        model.minimum_pools,
        model.T,
        rule=lambda m, p, t: m.nodes[p, t] + m.below_minimum[p, t] >= int(problem.least[p, t]),
    )


def below_minimum_price(problem: Problem, p: int, t: int) -> float:
    """Return the money per node-hour that a pool lacks; nodes that reservations use are always worth running."""
    price = problem.settings.shortage_price * BELOW_MINIMUM_FACTOR * problem.pools[p].gpus_per_node
    held = problem.held[p, t] > problem.pools[p].min_nodes
    return max(price, 10.0 * float(problem.prices[p].max())) if held else price


def define_commitment(model: Model, problem: Problem) -> None:
    """A committed pool's nodes are paid for over the whole horizon, those that run now in any case."""
    pools = problem.pools
    model.committed_pools = list(problem.committed)
    model.committed = variable(
        model.committed_pools,
        bounds=lambda _, p: (min(problem.now[p], pools[p].max_nodes), pools[p].max_nodes),
    )
    model.commitment = constraint(
        model.committed_pools, model.T, rule=lambda m, p, t: m.nodes[p, t] - m.committed[p] <= 0
    )


def define_latency_reserve(model: Model, problem: Problem) -> None:
    """Pools that are not interrupted can serve the expected latency demand and its reserve, or lack GPUs at a price."""
    needs = _needs(problem, [1 + rule.reserve if rule.reserve > 0 else 0.0 for rule in problem.class_policies])
    model.reserved = list(needs)
    model.reserve_gap = variable(model.reserved, model.T)
    _define_reserve(model, problem, "reserve", needs, [""], model.reserve_gap)


def define_zone_reserve(model: Model, problem: Problem) -> None:
    """Whichever zone is lost, the others can serve the expected latency demand, or lack GPUs at a price."""
    needs = _needs(problem, [rule.zone_reserve for rule in problem.class_policies])
    needs = {a: need for a, need in needs.items() if len(zones_of(problem, a)) > 1}
    model.zoned = list(needs)
    model.zone_gap = variable(model.zoned, model.T)
    zones = sorted({zone for a in needs for zone in zones_of(problem, a)})
    _define_reserve(model, problem, "zone", needs, zones, model.zone_gap)


def _define_reserve(
    model: Model, problem: Problem, name: str, needs: dict[str, Array], lost: list[str], gap: Any
) -> None:
    """Divide firm capacity among the needs, once for each zone that may be lost; `gap` is what is missing."""
    routes = [(a, g) for a in needs for g in firm_groups(problem, a)]
    groups = list(dict.fromkeys(g for _, g in routes))
    spare: Any = variable(routes, lost, model.T)

    served_by_group = {g: [a for a, group in routes if group == g] for g in groups}
    speed = {(a, g): problem.policy.speed(a, problem.groups[g].accelerator) for a, g in routes}
    groups_of = {a: [g for b, g in routes if b == a] for a in needs}
    remaining = {(g, zone): _pools_outside(problem, g, zone) for g in groups for zone in lost}

    def capacity(m: Model, g: int, zone: str, t: int) -> Expression:
        nodes = sum(gpus * m.nodes[p, t] for p, gpus in remaining[g, zone])
        return sum(spare[a, g, zone, t] for a in served_by_group[g]) - nodes <= 0

    def carried(m: Model, a: str, zone: str, t: int) -> Expression:
        served = sum(speed[a, g] * spare[a, g, zone, t] for g in groups_of[a])
        return served + gap[a, t] >= float(needs[a][t])

    model.add_component(f"{name}_spare", spare)
    model.add_component(f"{name}_room", constraint(groups, lost, model.T, rule=capacity))
    model.add_component(f"latency_{name}", constraint(list(needs), lost, model.T, rule=carried))


def _pools_outside(problem: Problem, g: int, zone: str) -> list[tuple[int, float]]:
    """Return a group's pools outside a zone (all, if the zone is empty), with their usable GPUs per node."""
    pools = [p for p in problem.groups[g].pools if not zone or zone_of(problem, p) != zone]
    return [(p, float(problem.usable_gpus[p])) for p in pools]


def firm_groups(problem: Problem, accelerator: str) -> list[int]:
    """Return the groups that may serve demand for an accelerator and are not interrupted."""
    speed = problem.policy.speed
    return [g for g, group in enumerate(problem.groups) if not group.spot and speed(accelerator, group.accelerator) > 0]


def zone_of(problem: Problem, p: int) -> str:
    """Return the zone of a pool, with its region."""
    return f"{problem.pools[p].region}/{problem.pools[p].zone}"


def zones_of(problem: Problem, accelerator: str) -> list[str]:
    """Return the zones of the pools that may serve demand for an accelerator and are not interrupted."""
    pools = [p for g in firm_groups(problem, accelerator) for p in problem.groups[g].pools]
    return list(dict.fromkeys(zone_of(problem, p) for p in pools))


def _needs(problem: Problem, shares: list[float]) -> dict[str, Array]:
    """Sum shares of the workloads' expected demand: GPUs by accelerator and period."""
    needs: dict[str, Array] = {}
    for w, (workload, share) in enumerate(zip(problem.workloads, shares, strict=True)):
        if share > 0:
            mean = problem.demand[:, w].mean(axis=0) * share
            needs[workload.accelerator] = needs.get(workload.accelerator, 0.0) + mean
    return needs


def define_budget(model: Model, problem: Problem) -> None:
    """What the nodes cost stays within the budget, or exceeds it at a price."""
    prices = problem.prices
    model.spend = expression(
        sum(
            float(prices[p, t]) * model.hours[t] * (model.committed[p] if p in problem.committed else model.nodes[p, t])
            for p in model.P
            for t in model.T
        )
    )
    model.over_budget = variable()
    if problem.budget is not None:
        model.budget = constraint(expr=model.spend - model.over_budget <= problem.budget)


def define_carbon_cap(model: Model, problem: Problem) -> None:
    """The nodes' emissions stay within the cap, or exceed it at a price; each kilogram may cost money anyway.

    Where emissions depend on the work too, `define_energy` keeps the cap on each path.
    """
    cap, carbon = problem.policy.carbon_cap_kg, problem.carbon
    model.emission = expression(
        sum(float(carbon[p, t]) * model.hours[t] * model.nodes[p, t] for p in model.P for t in model.T if carbon[p, t])
    )
    model.over_carbon = variable()
    if cap is not None and carbon.any() and not problem.caps_carbon:
        model.carbon_cap = constraint(expr=model.emission - model.over_carbon <= cap)


def define_steadiness(model: Model, problem: Problem) -> None:
    """Nodes of the next day more or less than in the last plan have a price, so that plans do not change needlessly."""
    near = [t for t in model.T if problem.periods.starts[t] < STEADY_HOURS]
    model.planned = [(p, t) for p in model.P for t in near if problem.previous[p, t] >= 0]
    model.changed = variable(model.planned)
    model.more_than_planned = constraint(
        model.planned, rule=lambda m, p, t: m.nodes[p, t] - m.changed[p, t] <= int(problem.previous[p, t])
    )
    model.less_than_planned = constraint(
        model.planned, rule=lambda m, p, t: m.nodes[p, t] + m.changed[p, t] >= int(problem.previous[p, t])
    )


def first_stage_cost(model: Model, problem: Problem) -> Expression:
    """Return the money for nodes and their power, the prices of starts and changes, and the prices of bent limits."""
    price, policy, prices = problem.settings.shortage_price, problem.policy, problem.prices
    early = problem.start_hours
    starts = sum(float(early[p] * prices[p, t]) * model.start[p, t] for p in model.P if early[p] for t in model.T)
    below = sum(
        below_minimum_price(problem, p, t) * model.hours[t] * model.below_minimum[p, t]
        for p in model.minimum_pools
        for t in model.T
    )
    gaps = sum(model.hours[t] * model.reserve_gap[a, t] for a in model.reserved for t in model.T)
    zones = sum(model.hours[t] * model.zone_gap[a, t] for a in model.zoned for t in model.T)
    power = sum(
        float(problem.electricity[p]) * model.hours[t] * model.nodes[p, t]
        for p in model.P
        if problem.electricity[p]
        for t in model.T
    )
    changes = sum(float(prices[p, t]) * model.hours[t] * model.changed[p, t] for p, t in model.planned)
    carbon = policy.carbon_price_per_kg * model.emission + policy.carbon_over_price * model.over_carbon
    bent = below + price * RESERVE_FACTOR * (gaps + zones) + OVER_BUDGET_PRICE * model.over_budget
    return model.spend + power + starts + policy.change_hours * changes + carbon + bent
