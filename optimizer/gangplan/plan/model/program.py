"""The capacity plan as a two-stage stochastic program in Pyomo, put together in three ways.

`build` states the extensive form: both stages, all paths at once. For decomposition the same constraint families state
two parts: `build_master` the first stage, in which each path's cost is a variable that cuts will bound, and
`build_recourse` one path under a given fleet. Business limits have a slack with a price: there is always a solution.

The second stage (recourse) stands here as well: what is served, waits, or is short on each path once demand is known.
One `define_*` for each constraint family; symbols and units are those of docs/plan.md. Indices: g serving group, t
period, w workload, k path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gangplan.plan.model import fleet_constraints
from gangplan.plan.model.algebra import SKIP, Expression, Model, PauseGC, constraint, minimize, new_model, variable
from gangplan.plan.problem import RISK_TAIL, RISK_WEIGHT, SLOWER_FACTOR, Array, Problem


def build(problem: Problem) -> Model:
    """Build the extensive form: the fleet, and each path under it."""
    with PauseGC():
        model = build_master(problem)
        define_paths(model, problem)
        model.path_cost_is = constraint(model.K, rule=lambda m, k: m.path_cost[k] - path_cost(m, problem, k) == 0)
    return model


def build_master(problem: Problem) -> Model:
    """Build the first stage; nothing bounds the paths' costs from below yet."""
    with PauseGC():
        model = new_model("gangplan")
        define_sets(model, problem, range(len(problem.paths)))
        fleet_constraints.define_fleet(model, problem)
        fleet_constraints.define_node_balance(model, problem)
        fleet_constraints.define_minimum_up(model, problem)
        fleet_constraints.define_minimum_nodes(model, problem)
        fleet_constraints.define_commitment(model, problem)
        fleet_constraints.define_latency_reserve(model, problem)
        fleet_constraints.define_zone_reserve(model, problem)
        fleet_constraints.define_budget(model, problem)
        fleet_constraints.define_carbon_cap(model, problem)
        fleet_constraints.define_steadiness(model, problem)
        define_risk(model)
        model.total = minimize(fleet_constraints.first_stage_cost(model, problem) + risk_cost(model))
    return model


def build_recourse(problem: Problem, k: int) -> Model:
    """Build the second stage of one path, with the fleet's nodes as variables to be fixed."""
    with PauseGC():
        model = new_model("gangplan-path")
        define_sets(model, problem, [k])
        fleet_constraints.define_fleet(model, problem)
        define_paths(model, problem)
        model.total = minimize(path_cost(model, problem, k))
    return model


def define_sets(model: Model, problem: Problem, paths: Sequence[int]) -> None:
    """Define the index sets; `routes` are the pairs (workload, group) that may serve."""
    model.P = range(len(problem.pools))
    model.T = range(len(problem.periods))
    model.K = paths
    model.W = range(len(problem.workloads))
    model.G = range(len(problem.groups))
    model.routes = [(w, g) for w in model.W for g in problem.served_by[w]]
    model.modes_of = {
        route: [i for i, mode in enumerate(problem.modes) if mode.route == route] for route in model.routes
    }
    model.hours = problem.periods.lengths


def define_paths(model: Model, problem: Problem) -> None:
    """Define everything that is decided once demand is known."""
    define_service(model, problem)
    define_hire(model, problem)
    define_capacity(model, problem)
    define_demand_balance(model, problem)
    define_quota(model, problem)
    define_energy(model, problem)


def define_risk(model: Model) -> None:
    """Define CVaR (Rockafellar and Uryasev 2000): a level, and by how much each path's cost exceeds it."""
    model.path_cost = variable(model.K)
    model.tail_level = variable()
    model.tail_excess = variable(model.K)
    model.cvar = constraint(model.K, rule=lambda m, k: m.tail_excess[k] + m.tail_level - m.path_cost[k] >= 0)


def risk_cost(model: Model) -> Expression:
    """Return the paths' mean cost and the mean of the worst ones (CVaR), weighed by the risk weight."""
    count = len(model.K)
    mean = sum(model.path_cost[k] for k in model.K) / count
    tail = model.tail_level + sum(model.tail_excess[k] for k in model.K) / (RISK_TAIL * count)
    return (1 - RISK_WEIGHT) * mean + RISK_WEIGHT * tail


def define_service(model: Model, problem: Problem) -> None:
    """GPUs that serve, without and with a cap, GPUs short, and GPU-hours that wait.

    At most the demand of the hours that work may wait does wait.
    """
    defer, rules = problem.deferrable, problem.class_policies
    model.serve = variable(model.routes, model.T, model.K)
    model.capped = variable(range(len(problem.modes)), model.T, model.K)
    model.short = variable(model.W, model.T, model.K)
    model.waiting = [w for w, rule in enumerate(rules) if rule.defer_hours and problem.demand[:, w].any()]
    model.backlog = variable(model.waiting, model.T, model.K, bounds=lambda _, w, t, k: (0, float(defer[k, w, t])))


def serving(model: Model, w: int, g: int, t: int, k: int) -> Expression:
    """Return the GPUs of a group that serve a workload, under whatever cap."""
    return sum((model.capped[i, t, k] for i in model.modes_of[w, g]), model.serve[w, g, t, k])


def define_capacity(model: Model, problem: Problem) -> None:
    """What a group serves fits its nodes, less interruptions and the capacity that failed on the path."""
    workloads_of = {g: [w for w, group in model.routes if group == g] for g in model.G}

    def capacity(m: Model, g: int, t: int, k: int) -> Expression:
        room = sum(
            float(problem.usable_gpus[p] * problem.supply[k, p, t]) * _nodes(m, problem, p, t, k)
            for p in problem.groups[g].pools
        )
        return sum(serving(m, w, g, t, k) for w in workloads_of[g]) - room <= 0

    model.capacity = constraint([g for g in model.G if workloads_of[g]], model.T, model.K, rule=capacity)


def define_hire(model: Model, problem: Problem) -> None:
    """Nodes that a path takes as it needs them, in fractions: so pools without a term follow demand over months."""
    pools = problem.pools
    model.hire = variable(
        problem.hired, model.T, model.K, bounds=lambda _, p, t, k: (pools[p].min_nodes, pools[p].max_nodes)
    )


def _nodes(model: Model, problem: Problem, p: int, t: int, k: int) -> Expression:
    """Return the nodes that a pool has on a path: those of the first stage, or those that the path takes."""
    return model.hire[p, t, k] if p in problem.hired else model.nodes[p, t]


def define_demand_balance(model: Model, problem: Problem) -> None:
    """Demand is served, waits or is short, in GPU-hours: new + waited before = served + short + waits after."""
    demand = problem.demand

    def balance(m: Model, w: int, t: int, k: int) -> Expression:
        now = sum(problem.speed(w, g) * m.serve[w, g, t, k] for g in problem.served_by[w]) + m.short[w, t, k]
        now += sum(mode.speed * m.capped[i, t, k] for i, mode in enumerate(problem.modes) if mode.workload == w)
        later = 0.0
        if w in m.waiting:
            later = m.backlog[w, t, k] - (m.backlog[w, t - 1, k] if t else 0.0)
        return m.hours[t] * now + later == m.hours[t] * float(demand[k, w, t])

    model.demand_balance = constraint(model.W, model.T, model.K, rule=balance)


def define_quota(model: Model, problem: Problem) -> None:
    """A tenant uses no more than its share and what it borrows, a cohort no more than its tenants' shares."""
    ceilings, allowed = problem.ceilings, set(model.routes)

    def quota(m: Model, c: int, t: int, k: int) -> Expression:
        used = [(w, g) for w in ceilings[c].workloads for g in ceilings[c].groups if (w, g) in allowed]
        return sum(serving(m, w, g, t, k) for w, g in used) <= ceilings[c].gpus if used else SKIP

    model.quota = constraint(range(len(ceilings)), model.T, model.K, rule=quota)


def define_energy(model: Model, problem: Problem) -> None:
    """Where GPUs at work draw more than idle ones, a path's emissions keep the carbon cap, or exceed it at a price."""
    paths: Any = model.K if problem.caps_carbon else []
    carbon = problem.carbon
    model.over_carbon_path = variable(paths)

    def within(m: Model, k: int) -> Expression:
        running = sum(float(carbon[p, t]) * m.hours[t] * m.nodes[p, t] for p in m.P for t in m.T if carbon[p, t])
        return running + _energy(m, problem, problem.energy[1], k) - m.over_carbon_path[k] <= problem.carbon_room

    model.path_carbon = constraint(paths, rule=within)


def _energy(model: Model, problem: Problem, per_kwh: Array, k: int) -> Expression:
    """Return what GPUs at work draw more than idle ones on a path, counted by `per_kwh` of shape (groups, periods)."""
    plain = sum(
        kw * float(per_kwh[g, t]) * model.hours[t] * model.serve[w, g, t, k]
        for w, g in model.routes
        if (kw := problem.kw_at_work(g))
        for t in model.T
    )
    capped = sum(
        mode.kw * float(per_kwh[mode.group, t]) * model.hours[t] * model.capped[i, t, k]
        for i, mode in enumerate(problem.modes)
        for t in model.T
    )
    return plain + capped


def path_cost(model: Model, problem: Problem, k: int) -> Expression:
    """Return what a path costs: shortage, delay, nodes that it takes, data that leaves its region, GPUs' power."""
    price, rules = problem.settings.shortage_price, problem.class_policies
    waiting: list[int] = model.waiting
    short = sum(
        price * rule.shortage_factor * model.hours[t] * model.short[w, t, k]
        for w, rule in enumerate(rules)
        for t in model.T
    )
    delay = sum(
        price * rules[w].delay_factor * model.hours[t] * model.backlog[w, t, k] for w in waiting for t in model.T
    )
    hire = sum(
        float(problem.prices[p, t]) * model.hours[t] * model.hire[p, t, k] for p in problem.hired for t in model.T
    )
    power = _energy(model, problem, problem.energy[0], k)
    power += sum(
        price * SLOWER_FACTOR * (1 - mode.point.speed) * model.hours[t] * model.capped[i, t, k]
        for i, mode in enumerate(problem.modes)
        for t in model.T
    )
    if problem.caps_carbon:
        power += problem.policy.carbon_over_price * model.over_carbon_path[k]
    return short + delay + hire + _egress_cost(model, problem, k) + power


def _egress_cost(model: Model, problem: Problem, k: int) -> Expression:
    """Return the money for data that leaves its region on a path."""
    routes = [(w, g, price) for w, g in model.routes if (price := problem.egress(w, g)) > 0]
    return sum(price * model.hours[t] * serving(model, w, g, t, k) for w, g, price in routes for t in model.T)
