"""Which limits bind, and what one more unit of each would bring: from a re-solve, never from a dual.

A dual holds only where it was taken; measured, duals of this model were wrong by factors. So each limit that is reached
is moved by one unit and the relaxed problem is solved again, warm. The relaxation is used on both sides, so that the
whole-node search's gap does not drown the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from gangplan.plan.decomposition import Decomposition
from gangplan.plan.handover import Array, Engine, Ints
from gangplan.plan.policy import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR
from gangplan.plan.search import Search
from gangplan.plan.solution import TOLERANCE, Solution
from gangplan.tables import PLAN_LIMITS, conform, empty

BUDGET_STEP = 0.01
"""The share of the budget that counts as one more unit of it."""

NEARLY = 0.995
"""The share of the budget from which it is said to bind (a whole node more need not fit)."""

TIGHT = 1e-4
"""The gap to which the relaxed problems that are compared are solved; nearer takes far longer than it tells."""

EXPLAIN_SHARE = 0.25
"""The share of the time left that the explanation may take (and a second in any case)."""


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


def kept_limits(solution: Solution, search: Search) -> list[Binding]:
    """List the limits that were reached and kept, each with what one more unit would bring, from a re-solve.

    Where there are many, those are solved again first that could bring most; what the time does not reach is left out.
    """
    decomposition = search.decomposition
    if solution.found.bound == -np.inf:
        return []
    until = perf_counter() + max(1.0, EXPLAIN_SHARE * search.seconds_left)
    decomposition.run(TIGHT, until, lambda _low, _high: None)
    if decomposition.best is None:
        return []
    tries = [*_pools(solution, search), *_budget(solution, search)]
    least = 2 * TIGHT * max(1.0, abs(decomposition.best.objective))
    promise = {at: one.promise(decomposition) for at, one in enumerate(tries)}
    ranked = sorted((at for at in promise if promise[at] > least), key=lambda at: -promise[at])
    found = [tries[at].solve(search, TIGHT, until) for at in ranked if perf_counter() < until]
    return [one for one in found if one is not None and one.cost > least]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Try:
    """A limit that is to be moved by a unit: how its columns or its row change, and back."""

    binding: Binding
    change: Callable[[Engine], None]
    undo: Callable[[Engine], None]

    def promise(self, decomposition: Decomposition) -> float:
        """Return the most that it can bring: what the cuts say so far."""
        assert decomposition.best is not None  # noqa: S101 - the caller has looked
        engine = decomposition.master.engine
        self.change(engine)
        answer = engine.run(np.inf)
        self.undo(engine)
        return decomposition.best.objective - answer.objective

    def solve(self, search: Search, gap: float, until: float) -> Binding | None:
        """Solve again under the change and compare."""
        decomposition = search.decomposition
        point = decomposition.loosened(self.change, gap, until)
        self.undo(decomposition.master.engine)
        base = decomposition.best
        if point is None or base is None:
            return None
        relief = search.short_gpu_hours(base) - search.short_gpu_hours(point)
        return replace(self.binding, cost=base.objective - point.objective, relief=relief)


def _pools(solution: Solution, search: Search) -> Iterator[_Try]:
    """One more node of each pool that runs all it may; nodes at once of each that has to wait for them."""
    problem, master = solution.problem, search.decomposition.master
    for p, pool in enumerate(problem.pools):
        at_most = solution.nodes[p] >= pool.max_nodes
        if at_most.any():
            hours = int(np.array(problem.periods.lengths)[at_most].sum())
            columns = master.nodes[p]
            if p in problem.committed:
                columns = np.append(columns, master.form.columns_of([master.model.committed[p]]))
            more = np.full(len(columns), pool.max_nodes + 1.0)
            yield _try("maximum_nodes", pool.name, hours, 1.0, columns, more, search)
        waiting = problem.periods.first_after(pool.lead_time_hours)
        if waiting and pool.max_nodes > problem.now[p]:
            columns = master.form.columns_of([master.model.start[p, t] for t in range(waiting)])
            lead = pool.lead_time_hours
            yield _try("lead_time", pool.name, lead, float(lead), columns, np.full(waiting, np.inf), search)


def _try(family: str, name: str, hours: int, amount: float, columns: Ints, upper: Array, search: Search) -> _Try:
    """Widen columns to other upper bounds."""
    form = search.decomposition.master.form
    lower = form.lower[columns]
    return _Try(
        binding=Binding(family=family, name=name, hours=hours, amount=amount, cost=0.0),
        change=lambda engine: engine.bound_columns(columns, lower, upper),
        undo=lambda engine: engine.bound_columns(columns, lower, form.upper[columns]),
    )


def _budget(solution: Solution, search: Search) -> Iterator[_Try]:
    """One per cent more budget when it is nearly spent."""
    problem, master = solution.problem, search.decomposition.master
    limit = problem.budget
    if limit is None or float(solution.cost.sum()) < NEARLY * limit:
        return
    row = np.array([master.form.row[id(master.model.budget)]], dtype=np.int32)
    free = np.array([-np.inf])
    upper = master.form.row_upper[row]
    more = limit * BUDGET_STEP
    yield _Try(
        binding=Binding(family="budget", name="budget", hours=problem.periods.hours, amount=more, cost=0.0),
        change=lambda engine: engine.bound_rows(row, free, upper + more),
        undo=lambda engine: engine.bound_rows(row, free, upper),
    )


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
