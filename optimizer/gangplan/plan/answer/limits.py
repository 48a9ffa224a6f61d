"""The limits that a plan had to bend, and at what price; for the limits that it kept see `marginal`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from gangplan.plan.answer.solution import TOLERANCE, Solution
from gangplan.plan.problem import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR, Array, Counts
from gangplan.tables import PLAN_LIMITS, conform, empty

NEARLY = 0.995
"""The share of a budget or quota from which it counts as used up: one whole node more may not fit."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A limit that binds.

    If the limit was bent, `amount` is by how much (GPU-hours, node-hours or money) and `cost` its price. If it was
    kept, `amount` is the step by which it was widened (nodes, hours of lead time, money), `cost` the money that this
    would save, and `relief` the GPU-hours of expected shortage that this would serve.
    """

    family: str
    name: str
    hours: int
    amount: float
    cost: float
    relief: float = 0.0


def to_table(bindings: list[Binding]) -> pl.DataFrame:
    """Return the limits as the plan's table, the most expensive first."""
    if not bindings:
        return empty(PLAN_LIMITS)
    rows = [{key: value for key, value in vars(limit).items() if key != "relief"} for limit in bindings]
    frame = conform("limits", pl.DataFrame(rows), PLAN_LIMITS)
    return frame.sort("cost", "family", "name", descending=[True, False, False])


def bent_limits(solution: Solution) -> list[Binding]:
    """List the limits that the plan had to bend: demand, reserves, minimum nodes, budget, carbon."""
    problem, lengths = solution.problem, np.array(solution.problem.periods.lengths)
    price = problem.settings.shortage_price
    factors = [price * rule.shortage_factor for rule in problem.class_policies]
    families = ["demand" if groups else "no_pool" for groups in problem.served_by]
    names = [workload.name for workload in problem.workloads]
    slacks = [
        *zip(families, names, solution.expected_short, factors, strict=True),
        *(("latency_reserve", name, gap, price * RESERVE_FACTOR) for name, gap in solution.reserve_gap.items()),
        *(("zone_reserve", name, gap, price * RESERVE_FACTOR) for name, gap in solution.zone_gap.items()),
        *(
            ("minimum_nodes", pool.name, solution.below_minimum[p], price * BELOW_MINIMUM_FACTOR * pool.gpus_per_node)
            for p, pool in enumerate(problem.pools)
            if p in solution.below_minimum
        ),
    ]
    bent = [_bent(family, name, amounts, lengths, cost) for family, name, amounts, cost in slacks]
    return [limit for limit in (*bent, *_over_budget(solution), *_over_carbon(solution)) if limit.amount > TOLERANCE]


def _bent(family: str, name: str, amounts: Array, lengths: Counts, price: float) -> Binding:
    """Sum a slack over its periods; `price` is money for each unit and hour."""
    used = amounts > TOLERANCE
    amount = float((amounts * lengths)[used].sum())
    return Binding(family=family, name=name, hours=int(lengths[used].sum()), amount=amount, cost=amount * price)


def _over_budget(solution: Solution) -> list[Binding]:
    """Return what is spent over the budget; the cost of the minimum nodes is no choice and counts only once."""
    budget = solution.problem.settings.budget
    over = 0.0 if budget is None else float(solution.cost.sum()) - budget
    if over <= TOLERANCE or budget is None:
        return []
    chosen = max(0.0, float(solution.cost.sum()) - max(budget, solution.problem.unavoidable_cost))
    cost = chosen * OVER_BUDGET_PRICE + (over - chosen)
    return [Binding(family="over_budget", name="budget", hours=solution.problem.periods.hours, amount=over, cost=cost)]


def _over_carbon(solution: Solution) -> list[Binding]:
    """Return what is emitted over the cap."""
    policy = solution.problem.policy
    over = 0.0 if policy.carbon_cap_kg is None else float(solution.emission.sum()) - policy.carbon_cap_kg
    if over <= TOLERANCE:
        return []
    cost, hours = over * policy.carbon_over_price, solution.problem.periods.hours
    return [Binding(family="carbon_cap", name="carbon", hours=hours, amount=over, cost=cost)]
