"""Which limits a plan had to bend, and at what price; `marginal` says what one more unit of a kept one would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from gangplan.plan.answer.solution import TOLERANCE, Solution
from gangplan.plan.problem import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR
from gangplan.tables import PLAN_LIMITS, conform, empty

NEARLY = 0.995
"""The share of the budget from which it is said to bind (a whole node more need not fit)."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A limit that binds.

    For a limit that was bent, `amount` is by how much (GPU-hours, node-hours or money) and `cost` its price. For one
    that was kept, `amount` is the unit that it was moved by (nodes, hours of lead time, money), `cost` the money that
    this would save and `relief` the GPU-hours of expected shortage that it would serve.
    """

    family: str
    name: str
    hours: int
    amount: float
    cost: float
    relief: float = 0.0


def to_table(bindings: list[Binding]) -> pl.DataFrame:
    """Put the limits into the plan's table, the dearest first."""
    if not bindings:
        return empty(PLAN_LIMITS)
    rows = [{key: value for key, value in vars(one).items() if key != "relief"} for one in bindings]
    frame = conform("limits", pl.DataFrame(rows), PLAN_LIMITS)
    return frame.sort("cost", "family", "name", descending=[True, False, False])


def bent_limits(solution: Solution) -> list[Binding]:
    """List what the plan had to bend: demand, reserves, minima, the budget."""
    problem, lengths = solution.problem, np.array(solution.problem.periods.lengths)
    price = problem.settings.shortage_price
    found = [
        _bent(
            "demand" if problem.served_by[w] else "no_pool",
            workload.name,
            solution.expected_short[w],
            lengths,
            price * problem.class_policies[w].shortage_factor,
        )
        for w, workload in enumerate(problem.workloads)
    ]
    found += [
        _bent("latency_reserve", a, gap, lengths, price * RESERVE_FACTOR) for a, gap in solution.reserve_gap.items()
    ]
    found += [_bent("zone_reserve", a, gap, lengths, price * RESERVE_FACTOR) for a, gap in solution.zone_gap.items()]
    found += [
        _bent(
            "minimum_nodes",
            problem.pools[p].name,
            below,
            lengths,
            price * BELOW_MINIMUM_FACTOR * problem.pools[p].gpus_per_node,
        )
        for p, below in solution.below_minimum.items()
    ]
    return [one for one in (*found, *_over_budget(solution), *_over_carbon(solution)) if one.amount > TOLERANCE]


def _bent(family: str, name: str, amounts: Any, lengths: Any, price: float) -> Binding:
    """Sum a slack over its periods."""
    used = amounts > TOLERANCE
    amount = float((amounts * lengths)[used].sum())
    return Binding(family=family, name=name, hours=int(lengths[used].sum()), amount=amount, cost=amount * price)


def _over_budget(solution: Solution) -> list[Binding]:
    """Tell what is spent over the budget; what the minimum nodes cost is no choice and is priced once."""
    budget = solution.problem.settings.budget
    over = 0.0 if budget is None else float(solution.cost.sum()) - budget
    if over <= TOLERANCE or budget is None:
        return []
    chosen = max(0.0, float(solution.cost.sum()) - max(budget, solution.problem.unavoidable_cost))
    cost = chosen * OVER_BUDGET_PRICE + (over - chosen)
    return [Binding(family="over_budget", name="budget", hours=solution.problem.periods.hours, amount=over, cost=cost)]


def _over_carbon(solution: Solution) -> list[Binding]:
    """Tell what is emitted over the cap."""
    policy = solution.problem.policy
    over = 0.0 if policy.carbon_cap_kg is None else float(solution.emission.sum()) - policy.carbon_cap_kg
    if over <= TOLERANCE:
        return []
    cost, hours = over * policy.carbon_over_price, solution.problem.periods.hours
    return [Binding(family="carbon_cap", name="carbon", hours=hours, amount=over, cost=cost)]
