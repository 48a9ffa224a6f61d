"""What is decided on each path once its demand is known: who is served where, what waits, what is short.

One `define_*` per constraint family; symbols and units are those of docs/plan.md. Indices: g serving group, t period,
w workload, k path.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportOperatorIssue=false, reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.problem import Problem

Model = Any  # Pyomo gives models their attributes at run time


def define_service(model: Model, problem: Problem) -> None:
    """GPUs serving, GPUs short, and GPU-hours that wait (at most the window's demand); GPUs are as asked for."""
    defer, rules = problem.deferrable, problem.class_policies
    model.serve = pyo.Var(model.routes, model.T, model.K, bounds=(0, None))
    model.short = pyo.Var(model.W, model.T, model.K, bounds=(0, None))
    waits = [w for w in model.W if rules[w].defer_hours and problem.demand[:, w].any()]
    model.waiting = pyo.Set(initialize=waits)
    model.backlog = pyo.Var(model.waiting, model.T, model.K, bounds=lambda _, w, t, k: (0, float(defer[k, w, t])))


def define_capacity(model: Model, problem: Problem) -> None:
    """What a group serves fits its nodes, interruptions and what the path lost taken off."""
    guests = {g: [w for w, home in model.routes if home == g] for g in model.G}

    def capacity(m: Model, g: int, t: int, k: int) -> Any:
        room = sum(room_of_a_node(problem, k, p, t) * _nodes(m, problem, p, t, k) for p in problem.groups[g].pools)
        return sum(m.serve[w, g, t, k] for w in guests[g]) - room <= 0

    model.capacity = pyo.Constraint([g for g in model.G if guests[g]], model.T, model.K, rule=capacity)


def define_hire(model: Model, problem: Problem) -> None:
    """Nodes that a path takes as it needs them, not whole: how pools without a term follow demand over months."""
    pools = problem.pools
    model.hire = pyo.Var(
        problem.hired, model.T, model.K, bounds=lambda _, p, t, k: (pools[p].min_nodes, pools[p].max_nodes)
    )


def _nodes(model: Model, problem: Problem, p: int, t: int, k: int) -> Any:
    """The nodes that a pool has on a path: those of the fleet, or those that the path takes."""
    return model.hire[p, t, k] if p in problem.hired else model.nodes[p, t]


def room_of_a_node(problem: Problem, k: int, p: int, t: int) -> float:
    """GPUs that one node of a pool brings on a path."""
    return float(problem.usable_gpus[p] * problem.supply[k, p, t])


def define_demand_balance(model: Model, problem: Problem) -> None:
    """Demand is served, waits or is short, in GPU-hours: new work plus what waited equals served + short + waits on."""
    demand = problem.demand

    def balance(m: Model, w: int, t: int, k: int) -> Any:
        now = sum(problem.speed(w, g) * m.serve[w, g, t, k] for g in problem.served_by[w]) + m.short[w, t, k]
        later = 0.0
        if w in m.waiting:
            later = m.backlog[w, t, k] - (m.backlog[w, t - 1, k] if t else 0.0)
        return m.hours[t] * now + later == m.hours[t] * float(demand[k, w, t])

    model.demand_balance = pyo.Constraint(model.W, model.T, model.K, rule=balance)


def define_quota(model: Model, problem: Problem) -> None:
    """A tenant holds no more than its share and what it borrows, a cohort no more than its tenants' shares."""
    ceilings, allowed = problem.ceilings, set(model.routes)

    def quota(m: Model, c: int, t: int, k: int) -> Any:
        held = [(w, g) for w in ceilings[c].workloads for g in ceilings[c].groups if (w, g) in allowed]
        return sum(m.serve[w, g, t, k] for w, g in held) <= ceilings[c].gpus if held else pyo.Constraint.Skip

    model.quota = pyo.Constraint(range(len(ceilings)), model.T, model.K, rule=quota)


def path_cost(model: Model, problem: Problem, k: int) -> Any:
    """Money that shortage and delay cost on a path, and the nodes that it takes."""
    price, rules = problem.settings.shortage_price, problem.class_policies
    short = sum(
        price * rules[w].shortage_factor * model.hours[t] * model.short[w, t, k] for w in model.W for t in model.T
    )
    delay = sum(
        price * rules[w].delay_factor * model.hours[t] * model.backlog[w, t, k] for w in model.waiting for t in model.T
    )
    hire = sum(
        float(problem.prices[p, t]) * model.hours[t] * model.hire[p, t, k] for p in problem.hired for t in model.T
    )
    return short + delay + hire + egress_cost(model, problem, k)


def egress_cost(model: Model, problem: Problem, k: int) -> Any:
    """Money for data that leaves its region on a path."""
    routes = [(w, g, price) for w, g in model.routes if (price := problem.egress(w, g)) > 0]
    return sum(price * model.hours[t] * model.serve[w, g, t, k] for w, g, price in routes for t in model.T)
