"""Which limits bind, and what one more unit of each would bring: from a re-solve, never from a dual.

A dual holds only where it was taken; measured, duals of this model were wrong by factors. So each limit that is reached
is moved by one unit and the relaxed problem is solved again, warm. The relaxation is used on both sides, so that the
whole-node search's gap does not drown the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from gangplan.plan.handover import Answer
from gangplan.plan.policy import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR
from gangplan.plan.search import Search
from gangplan.plan.solution import TOLERANCE, Solution
from gangplan.tables import PLAN_LIMITS, conform, empty

BUDGET_STEP = 0.01
"""The share of the budget that counts as one more unit of it."""

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
            price * workload.policy.shortage_factor,
        )
        for w, workload in enumerate(problem.workloads)
    ]
    found += [
        _bent("latency_reserve", a, gap, lengths, price * RESERVE_FACTOR) for a, gap in solution.reserve_gap.items()
    ]
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
    return [one for one in (*found, *_over_budget(solution)) if one.amount > TOLERANCE]


def kept_limits(solution: Solution, search: Search, model: Any) -> list[Binding]:
    """List the limits that were reached and kept, each with what one more unit would bring, from a re-solve."""
    if search.base is None or search.base.values is None:
        return []
    tried = [
        *(_more_nodes(solution, search, p) for p in range(len(solution.problem.pools))),
        *(_no_lead(solution, search, model, p) for p in range(len(solution.problem.pools))),
        _more_budget(solution, search, model),
    ]
    least = 1e-5 * max(1.0, abs(search.base.objective))
    return [one for one in tried if one is not None and one.cost > least]


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


def _more_nodes(solution: Solution, search: Search, p: int) -> Binding | None:
    """Allow one more node of a pool that runs all it may."""
    pool = solution.problem.pools[p]
    at_most = solution.nodes[p] >= pool.max_nodes
    if not at_most.any():
        return None
    columns = search.columns[p]
    search.relaxed.bound_columns(columns, np.zeros(len(columns)), np.full(len(columns), pool.max_nodes + 1.0))
    answer = search.relaxed.run(search.what_if_seconds)
    search.relaxed.restore_columns(columns)
    hours = int(np.array(solution.problem.periods.lengths)[at_most].sum())
    return _gain("maximum_nodes", pool.name, hours, 1.0, answer, search, solution)


def _no_lead(solution: Solution, search: Search, model: Any, p: int) -> Binding | None:
    """Let new nodes of a pool come at once."""
    pool = solution.problem.pools[p]
    waiting = solution.problem.periods.first_after(pool.lead_time_hours)
    if waiting == 0 or pool.max_nodes <= solution.problem.now[p]:
        return None
    columns = search.form.columns_of([model.start[p, t] for t in range(waiting)])
    search.relaxed.bound_columns(columns, np.zeros(waiting), np.full(waiting, np.inf))
    answer = search.relaxed.run(search.what_if_seconds)
    search.relaxed.restore_columns(columns)
    lead = pool.lead_time_hours
    return _gain("lead_time", pool.name, lead, float(lead), answer, search, solution)


def _more_budget(solution: Solution, search: Search, model: Any) -> Binding | None:
    """Allow one per cent more budget when it is nearly spent."""
    limit = solution.problem.budget
    if limit is None or float(solution.cost.sum()) < NEARLY * limit:
        return None
    row = search.form.row[id(model.budget)]
    search.relaxed.bound_row(row, limit * (1 + BUDGET_STEP))
    answer = search.relaxed.run(search.what_if_seconds)
    search.relaxed.bound_row(row, limit)
    return _gain("budget", "budget", solution.problem.periods.hours, limit * BUDGET_STEP, answer, search, solution)


def _gain(
    family: str, name: str, hours: int, amount: float, answer: Answer, search: Search, solution: Solution
) -> Binding | None:
    """Compare a re-solve with the base."""
    base = search.base
    if answer.values is None or base is None or base.values is None:
        return None
    relief = search.short_gpu_hours(base.values) - search.short_gpu_hours(answer.values)
    saved = base.objective - answer.objective
    return Binding(family=family, name=name, hours=hours, amount=amount, cost=saved, relief=relief)
