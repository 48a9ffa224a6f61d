"""The capacity plan as a Pyomo model: one `define_*` per constraint family.

Symbols and units are those of docs/plan.md. Indices: p pool, g serving group, t period, w workload, k scenario.
Nodes are whole and decided before demand is known; who is served where, what waits and what is short are decided per
scenario. Each business limit has a slack with a price, so that the model always has a solution.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportOperatorIssue=false, reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.policy import (
    BELOW_MINIMUM_FACTOR,
    OVER_BUDGET_PRICE,
    RESERVE_FACTOR,
    RISK_TAIL,
    RISK_WEIGHT,
    START_HOURS,
)
from gangplan.plan.problem import ANY, Problem

Model = Any  # Pyomo gives models their attributes at run time


def build(problem: Problem) -> Model:
    """Build the model: variables, constraint families, then the price of it all."""
    model = pyo.ConcreteModel("gangplan")
    define_sets(model, problem)
    define_fleet(model, problem)
    define_service(model, problem)
    define_node_balance(model, problem)
    define_minimum_nodes(model, problem)
    define_capacity(model, problem)
    define_demand_balance(model, problem)
    define_latency_reserve(model, problem)
    define_budget(model, problem)
    define_scenario_cost(model, problem)
    define_risk(model, problem)
    define_objective(model, problem)
    return model


def define_sets(model: Model, problem: Problem) -> None:
    """Index sets; `routes` are the (workload, group) pairs that may serve."""
    model.P = range(len(problem.pools))
    model.T = range(len(problem.periods))
    model.K = range(problem.paths.shape[0])
    model.W = range(len(problem.workloads))
    model.G = range(len(problem.groups))
    model.routes = [(w, g) for w in model.W for g in problem.served_by[w]]
    model.hours = problem.periods.lengths


def define_fleet(model: Model, problem: Problem) -> None:
    """First stage: nodes (whole, at most the pool's maximum), and nodes started and stopped as a period begins.

    Starts are indexed by arrival and are none before the lead time; whole by themselves since nodes are.
    """
    pools, starts = problem.pools, problem.periods.starts
    model.nodes = pyo.Var(model.P, model.T, domain=pyo.Integers, bounds=lambda _, p, t: (0, max(pools[p].max_nodes, 0)))
    model.start = pyo.Var(
        model.P, model.T, bounds=lambda _, p, t: (0, None if starts[t] >= pools[p].lead_time_hours else 0)
    )
    model.stop = pyo.Var(model.P, model.T, bounds=(0, None))


def define_service(model: Model, problem: Problem) -> None:
    """Second stage: GPUs serving, GPUs short, and GPU-hours that wait (at most the window's demand)."""
    defer, demand = problem.deferrable, problem.demand
    model.serve = pyo.Var(model.routes, model.T, model.K, bounds=(0, None))
    model.short = pyo.Var(model.W, model.T, model.K, bounds=(0, None))
    waits = [w for w in model.W if problem.workloads[w].policy.defer_hours and demand[:, w].any()]
    model.waiting = pyo.Set(initialize=waits)
    model.backlog = pyo.Var(model.waiting, model.T, model.K, bounds=lambda _, w, t, k: (0, float(defer[k, w, t])))


def define_node_balance(model: Model, problem: Problem) -> None:
    """nodes[t] = nodes[t-1] + started - stopped, from the nodes that run now."""

    def balance(m: Model, p: int, t: int) -> Any:
        before = m.nodes[p, t - 1] if t else problem.now[p]
        return m.nodes[p, t] - before == m.start[p, t] - m.stop[p, t]

    model.node_balance = pyo.Constraint(model.P, model.T, rule=balance)


def define_minimum_nodes(model: Model, problem: Problem) -> None:
    """A pool runs its minimum, or lacks nodes at a price (when its lead time keeps it from getting there)."""
    least = [p for p in model.P if problem.pools[p].min_nodes > 0]
    model.minimum_pools = pyo.Set(initialize=least)
    model.below_minimum = pyo.Var(model.minimum_pools, model.T, bounds=(0, None))
    model.minimum_nodes = pyo.Constraint(
        model.minimum_pools,
        model.T,
        rule=lambda m, p, t: m.nodes[p, t] + m.below_minimum[p, t] >= problem.pools[p].min_nodes,
    )


def define_capacity(model: Model, problem: Problem) -> None:
    """What a group serves fits its nodes, interruptions taken off, in each scenario."""
    guests = {g: [w for w, home in model.routes if home == g] for g in model.G}
    usable = problem.usable_gpus

    def capacity(m: Model, g: int, t: int, k: int) -> Any:
        room = sum(float(usable[p]) * m.nodes[p, t] for p in problem.groups[g].pools)
        return sum(m.serve[w, g, t, k] for w in guests[g]) - room <= 0

    model.capacity = pyo.Constraint([g for g in model.G if guests[g]], model.T, model.K, rule=capacity)


def define_demand_balance(model: Model, problem: Problem) -> None:
    """Demand is served, waits or is short, in GPU-hours: new work plus what waited equals served + short + waits on."""
    demand = problem.demand

    def balance(m: Model, w: int, t: int, k: int) -> Any:
        now = sum(m.serve[w, g, t, k] for g in problem.served_by[w]) + m.short[w, t, k]
        later = 0.0
        if w in m.waiting:
            later = m.backlog[w, t, k] - (m.backlog[w, t - 1, k] if t else 0.0)
        return m.hours[t] * now + later == m.hours[t] * float(demand[k, w, t])

    model.demand_balance = pyo.Constraint(model.W, model.T, model.K, rule=balance)


def define_latency_reserve(model: Model, problem: Problem) -> None:
    """Capacity that is not interrupted exceeds the expected latency demand by its reserve, or lacks GPUs at a price."""
    needs = reserve_needs(problem)
    model.reserved = pyo.Set(initialize=list(needs))
    model.reserve_gap = pyo.Var(model.reserved, model.T, bounds=(0, None))
    usable = problem.usable_gpus

    def reserve(m: Model, accelerator: str, t: int) -> Any:
        firm = [g for g in problem.groups if not g.spot and accelerator in (ANY, g.accelerator)]
        room = sum(float(usable[p]) * m.nodes[p, t] for g in firm for p in g.pools)
        return room + m.reserve_gap[accelerator, t] >= float(needs[accelerator][t])

    model.latency_reserve = pyo.Constraint(model.reserved, model.T, rule=reserve)


def reserve_needs(problem: Problem) -> dict[str, Any]:
    """GPUs wanted by accelerator and period: expected demand of classes with a reserve, plus that reserve."""
    needs: dict[str, Any] = {}
    for w, workload in enumerate(problem.workloads):
        if workload.policy.reserve > 0:
            mean = problem.demand[:, w].mean(axis=0) * (1 + workload.policy.reserve)
            needs[workload.accelerator] = needs.get(workload.accelerator, 0.0) + mean
    if ANY in needs:  # its firm pools are everybody's, so all reserves together must fit them
        needs[ANY] = sum(needs.values())
    return needs


def define_budget(model: Model, problem: Problem) -> None:
    """The nodes' money stays within the budget, or exceeds it at a price."""
    model.spend = pyo.Expression(
        expr=sum(
            pool.price_per_node_hour * model.hours[t] * model.nodes[p, t]
            for p, pool in enumerate(problem.pools)
            for t in model.T
        )
    )
    model.over_budget = pyo.Var(bounds=(0, None))
    if problem.budget is not None:
        model.budget = pyo.Constraint(expr=model.spend - model.over_budget <= problem.budget)


def define_scenario_cost(model: Model, problem: Problem) -> None:
    """Money that shortage and delay cost in each scenario."""
    price = problem.settings.shortage_price
    policy = [workload.policy for workload in problem.workloads]

    def cost(m: Model, k: int) -> Any:
        short = sum(policy[w].shortage_factor * m.hours[t] * m.short[w, t, k] for w in m.W for t in m.T)
        delay = sum(policy[w].delay_factor * m.hours[t] * m.backlog[w, t, k] for w in m.waiting for t in m.T)
        return m.scenario_cost[k] - price * short - price * delay == 0

    model.scenario_cost = pyo.Var(model.K, bounds=(0, None))
    model.scenario_cost_is = pyo.Constraint(model.K, rule=cost)


def define_risk(model: Model, problem: Problem) -> None:
    """CVaR after Rockafellar and Uryasev: a level, and what each scenario exceeds it by."""
    model.tail_level = pyo.Var(bounds=(0, None))
    model.tail_excess = pyo.Var(model.K, bounds=(0, None))
    model.cvar = pyo.Constraint(model.K, rule=lambda m, k: m.tail_excess[k] + m.tail_level - m.scenario_cost[k] >= 0)


def define_objective(model: Model, problem: Problem) -> None:
    """Money for nodes, prices of bent limits, and shortage: its mean, and its worst tail by the risk weight."""
    count, price = len(model.K), problem.settings.shortage_price
    starts = sum(
        START_HOURS * pool.price_per_node_hour * model.start[p, t]
        for p, pool in enumerate(problem.pools)
        for t in model.T
    )
    below = sum(
        price * BELOW_MINIMUM_FACTOR * problem.pools[p].gpus_per_node * model.hours[t] * model.below_minimum[p, t]
        for p in model.minimum_pools
        for t in model.T
    )
    gaps = sum(
        price * RESERVE_FACTOR * model.hours[t] * model.reserve_gap[a, t] for a in model.reserved for t in model.T
    )
    mean = sum(model.scenario_cost[k] for k in model.K) / count
    tail = model.tail_level + sum(model.tail_excess[k] for k in model.K) / (RISK_TAIL * count)
    risk = (1 - RISK_WEIGHT) * mean + RISK_WEIGHT * tail
    bent = below + gaps + OVER_BUDGET_PRICE * model.over_budget
    model.total = pyo.Objective(expr=model.spend + starts + bent + risk, sense=pyo.minimize)
