"""HiGHS with types: one solver on one standard form, changed and solved again through arrays.

The result of a run is a value. Its status is always read, because a run that fails leaves old numbers behind. The
scheduler is reset first, because HiGHS refuses to run when another part of the process used other threads.

What a run takes is counted in simplex iterations, so that a search which may do so much and no more ends at the same
point on every machine, idle or loaded.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import Ints, StandardForm
from gangplan.plan.problem import Array

Integers = NDArray[np.integer[Any]]

_RUN, _ITERATION, _NONZERO, _BRANCHING = 5e-4, 2e-5, 5e-10, 8
"""Units of work, measured as seconds of one core: a run; an iteration, and what it takes more for each nonzero of the
matrix; how many times as much it takes in branch and bound, with cuts and heuristics."""

_TOUCHES = 1e-6
"""A row whose value is this near its bound is touched."""

_STATUS = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kTimeLimit: "time_limit",
    highspy.HighsModelStatus.kInfeasible: "infeasible",
    highspy.HighsModelStatus.kUnbounded: "unbounded",
    highspy.HighsModelStatus.kUnboundedOrInfeasible: "unbounded",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SolverResult:
    """What a run gave: how it ended, its objective, a proven bound below, and values if it has a feasible point.

    A linear program that was solved has duals too: what the objective gains for each unit of a row's or a column's
    bound.
    """

    status: str
    objective: float
    bound: float
    values: Array | None
    row_duals: Array | None = None
    column_duals: Array | None = None


class Work:
    """What may still be done: counted `units`, each about a second of an idle core, and, as a last resort, seconds.

    Only `units` decide where a search ends, unless the machine is so slow that the seconds are over first.
    """

    def __init__(self, units: float = np.inf, seconds: float = np.inf) -> None:
        self.units = units
        self._until = perf_counter() + seconds

    @property
    def seconds(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._until - perf_counter())

    @property
    def ended(self) -> str:
        """What is over, "work_limit" or "time_limit"; empty while neither is."""
        if self.units <= 0:
            return "work_limit"
        return "" if perf_counter() < self._until else "time_limit"

    def part(self, share: float, least: float) -> Work:
        """Return a share of what is left, or `least` units and seconds if that is more."""
        return Work(max(least, share * self.units), max(least, share * self.seconds))


class _QuietHighs(highspy.Highs):
    """HiGHS that prints nothing: its banner comes with its first callback, before any option can be set."""

    def enableCallbacks(self) -> None:
        self.silent()
        super().enableCallbacks()


class Engine:
    """One HiGHS instance on one standard form. Changes of bounds keep its basis, so the next run has a warm start.

    A `relaxed` one takes all columns as continuous. Branch and bound stops at the relative `gap` or at `most_nodes`.
    """

    def __init__(
        self, form: StandardForm, *, relaxed: bool, seed: int, gap: float = 0.0, most_nodes: int | None = None
    ) -> None:
        highspy.Highs.resetGlobalScheduler(True)
        self.form = form
        self._relaxed = relaxed
        self._highs: Any = _QuietHighs()  # its stub lacks calls and does not type others
        self._set({"threads": 1, "random_seed": seed, "mip_rel_gap": gap, "mip_abs_gap": 1e-6})
        if most_nodes is not None:
            self._set({"mip_max_nodes": most_nodes})
        self._load(form)

    def _set(self, options: dict[str, float | int]) -> None:
        """Set options."""
        for option, value in options.items():
            _check(self._highs.setOptionValue(option, value), option)

    def _load(self, form: StandardForm) -> None:
        """Pass the whole problem as arrays."""
        status = self._highs.passModel(
            len(form.cost),
            len(form.row_lower),
            form.matrix.nnz,
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            form.offset,
            form.cost,
            form.lower,
            form.upper,
            form.row_lower,
            form.row_upper,
            form.matrix.indptr.astype(np.int32),
            form.matrix.indices.astype(np.int32),
            form.matrix.data,
            (form.whole & (not self._relaxed)).astype(np.int32),
        )
        _check(status, "passModel")

    def bound_columns(self, columns: Ints, lower: Array, upper: Array) -> None:
        """Give columns other bounds."""
        status = self._highs.changeColsBounds(len(columns), columns, lower.astype(float), upper.astype(float))
        _check(status, "changeColsBounds")

    def bound_rows(self, rows: Ints, lower: Array, upper: Array) -> None:
        """Give rows other bounds."""
        _check(self._highs.changeRowsBounds(len(rows), rows, lower, upper), "changeRowsBounds")

    def add_rows(self, lower: Array, rows: Integers, columns: Integers, values: Array) -> None:
        """Add rows with lower bounds; each of the values stands in the row and column beside it."""
        entries = (values, (rows, columns))
        matrix: Any = csr_array(entries, shape=(len(lower), len(self.form.cost)))
        status = self._highs.addRows(
            len(lower),
            lower,
            np.full(len(lower), np.inf),
            matrix.nnz,
            matrix.indptr.astype(np.int32),
            matrix.indices.astype(np.int32),
            matrix.data,
        )
        _check(status, "addRows")

    @property
    def basis(self) -> Any:
        """Where the last run ended: another engine of the same shape can start there."""
        return self._highs.getBasis()

    @basis.setter
    def basis(self, basis: Any) -> None:
        _check(self._highs.setBasis(basis), "setBasis")

    def drop_slack_rows(self) -> None:
        """Take off the added rows that the last solution does not touch."""
        first = len(self.form.row_lower)
        slack = np.array(self._highs.getSolution().row_value) - np.array(self._highs.getLp().row_lower_)
        self._drop_rows(np.flatnonzero(slack[first:] > _TOUCHES) + first)

    def _drop_rows(self, rows: Integers) -> None:
        """Take rows off."""
        _check(self._highs.deleteRows(len(rows), rows.astype(np.int32)), "deleteRows")

    @contextmanager
    def trial(self) -> Generator[None]:
        """Change bounds of columns and add rows, and take all of it back in the end, with the basis as it was."""
        rows: int = self._highs.getNumRow()
        basis, form = self._highs.getBasis(), self.form
        try:
            yield
        finally:
            self._drop_rows(np.arange(rows, int(self._highs.getNumRow())))
            self.bound_columns(np.arange(len(form.cost), dtype=np.int32), form.lower, form.upper)
            self.basis = basis

    def branch(self, start: Array | None, gap: float, nodes: int, work: Work) -> SolverResult:
        """Solve in whole numbers, from the values `start` of all columns if there are any, in at most so many nodes."""
        whole = np.flatnonzero(self.form.whole).astype(np.int32)
        self._set({"mip_rel_gap": gap, "mip_max_nodes": nodes})
        try:
            self._relaxed = False
            self._set_kind(whole, highspy.HighsVarType.kInteger)
            if start is not None:
                solution = highspy.HighsSolution()
                solution.col_value = start.tolist()
                _check(self._highs.setSolution(solution), "setSolution")
            return self.run(work)
        finally:
            self._relaxed = True
            self._set_kind(whole, highspy.HighsVarType.kContinuous)

    def _set_kind(self, columns: Ints, kind: Any) -> None:
        """Take columns as whole or as continuous."""
        _check(self._highs.changeColsIntegrality(len(columns), columns, np.full(len(columns), kind)), "integrality")

    def run(self, work: Work | None = None) -> SolverResult:
        """Solve within the seconds that are left, and count the work; HiGHS's own set-up is outside both."""
        work = work or Work()
        self._set({"time_limit": self._highs.getRunTime() + work.seconds})
        failed = self._highs.run() == highspy.HighsStatus.kError
        each = _ITERATION + _NONZERO * self._highs.getNumNz()
        work.units -= _RUN + each * max(0, self._highs.getInfo().simplex_iteration_count) * (
            1 if self._relaxed else _BRANCHING
        )
        if failed:
            return SolverResult(status="error", objective=np.inf, bound=-np.inf, values=None)
        info, solution = self._highs.getInfo(), self._highs.getSolution()
        status = _STATUS.get(self._highs.getModelStatus(), "stopped")
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        usable = feasible and (not self._relaxed or status == "optimal")
        has_duals = usable and self._relaxed
        objective = float(info.objective_function_value)
        return SolverResult(
            status=status,
            objective=objective if usable else np.inf,
            bound=self._bound(status, info),
            values=np.array(solution.col_value) if usable else None,
            row_duals=np.array(solution.row_dual) if has_duals else None,
            column_duals=np.array(solution.col_dual) if has_duals else None,
        )

    def _bound(self, status: str, info: Any) -> float:
        """Return what is proven about the optimum from below."""
        if not self._relaxed:
            return float(info.mip_dual_bound)
        return float(info.objective_function_value) if status == "optimal" else -np.inf


def _check(status: Any, call: str) -> None:
    """Stop after a call that HiGHS refused: that is a fault of ours, not of the input."""
    if status == highspy.HighsStatus.kError:
        raise RuntimeError(f"HiGHS refused {call}")
