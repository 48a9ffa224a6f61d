"""What one more unit of each limit that was reached would bring: from solving again, never from a dual.

docs/decisions/0010-solved-again.md says why. Each limit is widened by one unit and the relaxed problem is solved again
with a warm start: as one linear program while that is fast, by cuts when it is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gangplan.plan.answer.solution import NEARLY, Binding, Solution
from gangplan.plan.model import Ints
from gangplan.plan.solver import Engine, FleetProgram, Search, SolverResult, Work

WHOLE_COLUMNS = 60_000
"""Up to this many columns the relaxed problem is solved again as one linear program."""

BUDGET_STEP = 0.01
"""The share of the budget by which it is widened."""

TIGHT = 1e-4
"""The gap at which the compared relaxed problems count as solved. Lowered: much slower, hardly more exact."""

EXPLAIN_SHARE = 0.25
"""The share of the work that is left that the explanation may do (and a unit in any case)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LimitChange:
    """A limit to be widened by a unit: how the bounds of its columns or its row change, and how to take that back."""

    binding: Binding
    change: Callable[[Engine], None]
    undo: Callable[[Engine], None]

    def bringing(self, saving: float, relief: float) -> Binding:
        """Return the limit with what the unit brings: money, and GPU-hours of shortage that are served."""
        return replace(self.binding, cost=saving, relief=relief)


def kept_limits(solution: Solution, search: Search) -> list[Binding]:
    """List the limits that were reached and kept, each with what one more unit would bring.

    Limits for which there is no work left are left out; for a large problem, those come first that could bring most.
    """
    if solution.result.bound == -np.inf:
        return []
    work = search.work.part(EXPLAIN_SHARE, 1.0)
    small = search.columns <= WHOLE_COLUMNS
    least, limits = (_at_once if small else _by_cuts)(solution, search, work)
    return [limit for limit in limits if limit.cost > least]


def _at_once(solution: Solution, search: Search, work: Work) -> tuple[float, list[Binding]]:
    """Solve one linear program again for each change; return the least saving that counts, and the limits."""
    program = search.extensive
    base = program.engine.run(work)
    if base.values is None:
        return 0.0, []
    short = program.short_gpu_hours(base.values)
    limits: list[Binding] = []
    for change in _changes(solution, program):
        if work.ended:
            break
        result = _solve_changed(change, program.engine, work)
        if result.values is not None:
            relief = short - program.short_gpu_hours(result.values)
            limits.append(change.bringing(base.objective - result.objective, relief))
    return _least(base.objective), limits


def _by_cuts(solution: Solution, search: Search, work: Work) -> tuple[float, list[Binding]]:
    """Continue the search's decomposition for each change, those first that could bring most by the present cuts."""
    decomposition, master = search.decomposition, search.decomposition.master
    decomposition.run(TIGHT, work)
    base = decomposition.best
    if base is None:
        return 0.0, []
    least, short = _least(base.objective), search.short_gpu_hours(base)
    changes = list(_changes(solution, master))
    promises = [base.objective - _solve_changed(change, master.engine, work).objective for change in changes]
    limits: list[Binding] = []
    for promise, change in sorted(zip(promises, changes, strict=True), key=lambda pair: -pair[0]):
        if promise <= least or work.ended:
            break
        candidate = decomposition.run_loosened(change.change, TIGHT, work)
        change.undo(master.engine)
        if candidate is not None:
            relief = short - search.short_gpu_hours(candidate)
            limits.append(change.bringing(base.objective - candidate.objective, relief))
    return least, limits


def _solve_changed(change: LimitChange, engine: Engine, work: Work) -> SolverResult:
    """Solve a linear program with a limit widened, and take that back."""
    change.change(engine)
    result = engine.run(work)
    change.undo(engine)
    return result


def _least(objective: float) -> float:
    """Return the least saving that is more than the solver's tolerance."""
    return 2 * TIGHT * max(1.0, abs(objective))


def _changes(solution: Solution, program: FleetProgram) -> Iterator[LimitChange]:
    """Widen each limit that was reached: one node more in full pools, no lead time, a larger budget."""
    problem, model = solution.problem, program.model
    for p, pool in enumerate(problem.pools):
        full = solution.nodes[p] >= pool.max_nodes
        if full.any():
            hours = int(np.array(problem.periods.lengths)[full].sum())
            columns = program.nodes[p]
            if p in problem.committed:
                columns = np.append(columns, program.form.columns_of([model.committed[p]]))
            limit = Binding(family="maximum_nodes", name=pool.name, hours=hours, amount=1.0)
            yield _widened(limit, columns, pool.max_nodes + 1.0, program)
        waiting = problem.periods.first_after(pool.lead_time_hours)
        if waiting and pool.max_nodes > problem.now[p]:
            columns = program.form.columns_of([model.start[p, t] for t in range(waiting)])
            hours = pool.lead_time_hours
            limit = Binding(family="lead_time", name=pool.name, hours=hours, amount=float(hours))
            yield _widened(limit, columns, np.inf, program)
    yield from _budget(solution, program)


def _widened(binding: Binding, columns: Ints, bound: float, program: FleetProgram) -> LimitChange:
    lower, upper = program.form.lower[columns], program.form.upper[columns]
    return LimitChange(
        binding=binding,
        change=lambda engine: engine.bound_columns(columns, lower, np.full(len(columns), bound)),
        undo=lambda engine: engine.bound_columns(columns, lower, upper),
    )


def _budget(solution: Solution, program: FleetProgram) -> Iterator[LimitChange]:
    """Widen the budget when it is nearly spent."""
    problem, limit = solution.problem, solution.problem.budget
    if limit is None or float(solution.cost.sum()) < NEARLY * limit:
        return
    row = program.form.rows_of([program.model.budget])
    free, upper = np.array([-np.inf]), program.form.row_upper[row]
    more = limit * BUDGET_STEP
    yield LimitChange(
        binding=Binding(family="budget", name="budget", hours=problem.periods.hours, amount=more),
        change=lambda engine: engine.bound_rows(row, free, upper + more),
        undo=lambda engine: engine.bound_rows(row, free, upper),
    )
