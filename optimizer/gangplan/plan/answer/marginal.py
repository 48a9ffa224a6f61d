"""What one more unit of each limit that was reached would bring: from a re-solve, never from a dual.

A dual holds only where it was taken; measured, duals of this model were wrong by factors. So each limit that is reached
is moved by one unit and the relaxed problem is solved again, warm: as one linear program while that is quick, by cuts
when it is large. The relaxation is used on both sides, so that the whole-node search's gap does not drown the
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from gangplan.plan.answer.limits import NEARLY, Binding
from gangplan.plan.answer.solution import Solution
from gangplan.plan.solver import Answer, Array, Engine, Ints, Point, Search, StandardForm

WHOLE_COLUMNS = 60_000
"""Up to so many columns the relaxed problem is solved again as one linear program."""

BUDGET_STEP = 0.01
"""The share of the budget that counts as one more unit of it."""

TIGHT = 1e-4
"""The gap to which the relaxed problems that are compared are solved; nearer takes far longer than it tells."""

EXPLAIN_SHARE = 0.25
"""The share of the time left that the explanation may take (and a second in any case)."""


class Stated(Protocol):
    """The fleet's part of a model, as it was said, as it was handed over, and where it is solved."""

    @property
    def model(self) -> Any:
        """The Pyomo model."""
        ...

    @property
    def form(self) -> StandardForm:
        """Its standard form."""
        ...

    @property
    def nodes(self) -> Ints:
        """The columns of the fleet, shape (pools, periods)."""
        ...

    @property
    def engine(self) -> Engine:
        """Where its bounds are changed."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Move:
    """A limit that is to be moved by a unit: how the bounds of its columns or its row change, and back."""

    binding: Binding
    change: Callable[[Engine], None]
    undo: Callable[[Engine], None]

    def brought(self, saving: float, relief: float) -> Binding:
        """Return the limit with what the unit brings: money, GPU-hours of shortage."""
        return replace(self.binding, cost=saving, relief=relief)


def kept_limits(solution: Solution, search: Search) -> list[Binding]:
    """List the limits that were reached and kept, each with what one more unit would bring, from a re-solve.

    What the time does not reach is left out; a large problem asks first for what could bring most.
    """
    if solution.found.bound == -np.inf:
        return []
    until = perf_counter() + max(1.0, EXPLAIN_SHARE * search.seconds_left)
    whole = search.columns <= WHOLE_COLUMNS
    least, found = (_at_once if whole else _by_cuts)(solution, search, until)
    return [one for one in found if one.cost > least]


def _at_once(solution: Solution, search: Search, until: float) -> tuple[float, Iterable[Binding]]:
    """Solve one linear program again for each move; give the least saving that is one, and what the moves bring."""
    whole = search.whole
    base = whole.engine.run(until - perf_counter())
    if base.values is None:
        return 0.0, []
    short = whole.short_gpu_hours(base.values)

    def again(move: Move) -> Answer:
        move.change(whole.engine)
        answer = whole.engine.run(until - perf_counter())
        move.undo(whole.engine)
        return answer

    asked = ((move, again(move)) for move in _moves(solution, whole) if perf_counter() < until)
    return _least(base.objective), [
        move.brought(base.objective - answer.objective, short - whole.short_gpu_hours(answer.values))
        for move, answer in asked
        if answer.values is not None
    ]


def _by_cuts(solution: Solution, search: Search, until: float) -> tuple[float, Iterable[Binding]]:
    """Go on with the search's cuts, for those moves first of which the cuts say so far that they could bring most."""
    decomposition, master = search.decomposition, search.decomposition.master
    decomposition.run(TIGHT, until, lambda _low, _high: None)
    base = decomposition.best
    if base is None:
        return 0.0, []
    least = _least(base.objective)

    def promise(move: Move) -> float:
        move.change(master.engine)
        answer = master.engine.run(np.inf)
        move.undo(master.engine)
        return base.objective - answer.objective

    def again(move: Move) -> Point | None:
        point = decomposition.loosened(move.change, TIGHT, until)
        move.undo(master.engine)
        return point

    promises = [(promise(move), move) for move in _moves(solution, master)]
    ranked = sorted((one for one in promises if one[0] > least), key=lambda one: -one[0])
    asked = ((move, again(move)) for _, move in ranked if perf_counter() < until)
    short = search.short_gpu_hours(base)
    return least, [
        move.brought(base.objective - point.objective, short - search.short_gpu_hours(point))
        for move, point in asked
        if point is not None
    ]


def _least(objective: float) -> float:
    """Return the least saving that is not the solver's tolerance."""
    return 2 * TIGHT * max(1.0, abs(objective))


def _moves(solution: Solution, stated: Stated) -> Iterator[Move]:
    """One more node of each pool that runs all it may, nodes at once of each that has to wait for them, the budget."""
    problem, model, form = solution.problem, stated.model, stated.form
    for p, pool in enumerate(problem.pools):
        at_most = solution.nodes[p] >= pool.max_nodes
        if at_most.any():
            hours = int(np.array(problem.periods.lengths)[at_most].sum())
            columns = stated.nodes[p]
            if p in problem.committed:
                columns = np.append(columns, form.columns_of([model.committed[p]]))
            more = np.full(len(columns), pool.max_nodes + 1.0)
            yield _widened(_unit("maximum_nodes", pool.name, hours, 1.0), columns, more, form)
        waiting = problem.periods.first_after(pool.lead_time_hours)
        if waiting and pool.max_nodes > problem.now[p]:
            columns = form.columns_of([model.start[p, t] for t in range(waiting)])
            lead = pool.lead_time_hours
            yield _widened(_unit("lead_time", pool.name, lead, float(lead)), columns, np.full(waiting, np.inf), form)
    yield from _budget(solution, stated)


def _unit(family: str, name: str, hours: int, amount: float) -> Binding:
    """Name a limit and the unit that it is moved by; what that brings is not known yet."""
    return Binding(family=family, name=name, hours=hours, amount=amount, cost=0.0)


def _widened(binding: Binding, columns: Ints, upper: Array, form: StandardForm) -> Move:
    """Widen columns to other upper bounds."""
    lower = form.lower[columns]
    return Move(
        binding=binding,
        change=lambda engine: engine.bound_columns(columns, lower, upper),
        undo=lambda engine: engine.bound_columns(columns, lower, form.upper[columns]),
    )


def _budget(solution: Solution, stated: Stated) -> Iterator[Move]:
    """One per cent more budget when it is nearly spent."""
    problem, limit = solution.problem, solution.problem.budget
    if limit is None or float(solution.cost.sum()) < NEARLY * limit:
        return
    row = np.array([stated.form.row[id(stated.model.budget)]], dtype=np.int32)
    free, upper = np.array([-np.inf]), stated.form.row_upper[row]
    more = limit * BUDGET_STEP
    yield Move(
        binding=_unit("budget", "budget", problem.periods.hours, more),
        change=lambda engine: engine.bound_rows(row, free, upper + more),
        undo=lambda engine: engine.bound_rows(row, free, upper),
    )
