"""From the Pyomo model to HiGHS and back, by standard form and arrays: no file, no rows rebuilt in Python.

What HiGHS says comes back as a value. The status is always read, since a run that fails leaves old numbers behind; and
the scheduler is made anew first, since HiGHS refuses to run when another part of the process used other threads.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from pyomo.common.gc_manager import PauseGC
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

Array = NDArray[np.float64]
Ints = NDArray[np.int32]

_STATUS = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kTimeLimit: "time_limit",
    highspy.HighsModelStatus.kInfeasible: "infeasible",
    highspy.HighsModelStatus.kUnbounded: "unbounded",
    highspy.HighsModelStatus.kUnboundedOrInfeasible: "unbounded",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class StandardForm:
    """min cost x + offset, row_lower <= matrix x <= row_upper, lower <= x <= upper, some x whole."""

    cost: Array
    offset: float
    matrix: Any  # scipy.sparse.csc_array
    row_lower: Array
    row_upper: Array
    lower: Array
    upper: Array
    whole: NDArray[np.bool_]
    column: dict[int, int]
    row: dict[int, int]

    def columns_of(self, variables: Sequence[Any]) -> Ints:
        """Return the columns of Pyomo variables."""
        return np.array([self.column[id(variable)] for variable in variables], dtype=np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a run gave: how it ended, its objective, a proven bound below, and values if it has a feasible point.

    A relaxed run that ended has duals too: what the objective gains for each unit of a row's or a column's bound.
    """

    status: str
    objective: float
    bound: float
    values: Array | None
    row_duals: Array | None = None
    column_duals: Array | None = None


def compile_model(model: Any) -> StandardForm:
    """Write the model in standard form; the collector would only look on."""
    with PauseGC():
        return _compile(model)


def _compile(model: Any) -> StandardForm:
    """Read matrix, bounds and the places of variables and constraints."""
    form = LinearStandardFormCompiler().write(model, mixed_form=True)
    rhs = np.asarray(form.rhs, dtype=float)
    sign = np.array([entry.bound_type for entry in form.rows])
    bounds = [variable.bounds for variable in form.columns]
    return StandardForm(
        cost=form.c.toarray()[0],
        offset=float(form.c_offset[0]),
        matrix=form.A,
        row_lower=np.where(sign <= 0, rhs, -np.inf),
        row_upper=np.where(sign >= 0, rhs, np.inf),
        lower=np.array([-np.inf if low is None else low for low, _ in bounds], dtype=float),
        upper=np.array([np.inf if high is None else high for _, high in bounds], dtype=float),
        whole=np.array([variable.is_integer() for variable in form.columns]),
        column={id(variable): index for index, variable in enumerate(form.columns)},
        row={id(entry.constraint): index for index, entry in enumerate(form.rows)},
    )


class _QuietHighs(highspy.Highs):
    """HiGHS that prints nothing: its banner comes with its first callback, before any option can be set."""

    def enableCallbacks(self) -> None:
        self.silent()
        super().enableCallbacks()


class Engine:
    """One HiGHS instance on one standard form; changes of bounds keep its basis, so that the next run is warm."""

    def __init__(self, form: StandardForm, *, relaxed: bool, seed: int, gap: float = 0.0) -> None:
        highspy.Highs.resetGlobalScheduler(True)
        self.form = form
        self._mip = not relaxed
        self._highs = _QuietHighs()
        for option, value in {"threads": 1, "random_seed": seed, "mip_rel_gap": gap, "mip_abs_gap": 1e-6}.items():
            _check(self._highs.setOptionValue(option, value), option)
        self._load(form)

    def _load(self, form: StandardForm) -> None:
        """Pass the whole problem as arrays."""
        whole = form.whole if self._mip else np.zeros_like(form.whole)
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
            whole.astype(np.int32),
        )
        _check(status, "passModel")

    def bound_columns(self, columns: Ints, lower: Array, upper: Array) -> None:
        """Give columns other bounds."""
        status = self._highs.changeColsBounds(len(columns), columns, lower.astype(float), upper.astype(float))
        _check(status, "changeColsBounds")

    def restore_columns(self, columns: Ints) -> None:
        """Give columns the bounds of the model again."""
        self.bound_columns(columns, self.form.lower[columns], self.form.upper[columns])

    def bound_row(self, row: int, upper: float) -> None:
        """Give a row another upper bound."""
        _check(self._highs.changeRowBounds(row, float(self.form.row_lower[row]), upper), "changeRowBounds")

    def bound_rows(self, rows: Ints, lower: Array, upper: Array) -> None:
        """Give rows other bounds."""
        highs: Any = self._highs  # its type stub lacks this call
        _check(highs.changeRowsBounds(len(rows), rows, lower, upper), "changeRowsBounds")

    def add_rows(self, lower: Array, matrix: Any) -> None:
        """Add rows `matrix x >= lower`; the matrix is sparse, by rows."""
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
        """Where the last run ended, for an engine of the same shape to begin there."""
        return self._highs.getBasis()

    @basis.setter
    def basis(self, basis: Any) -> None:
        _check(self._highs.setBasis(basis), "setBasis")

    def run(self, seconds: float) -> Answer:
        """Solve within that time (its set-up is outside it)."""
        _check(self._highs.setOptionValue("time_limit", self._highs.getRunTime() + max(seconds, 0.0)), "time_limit")
        if self._highs.run() == highspy.HighsStatus.kError:
            return Answer(status="error", objective=np.inf, bound=-np.inf, values=None)
        info = self._highs.getInfo()
        status = _STATUS.get(self._highs.getModelStatus(), "stopped")
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        usable = feasible and (self._mip or status == "optimal")
        solution = self._highs.getSolution()
        dual = usable and not self._mip
        return Answer(
            status=status,
            objective=info.objective_function_value if usable else np.inf,
            bound=self._bound(status, info),
            values=np.array(solution.col_value) if usable else None,
            row_duals=np.array(solution.row_dual) if dual else None,
            column_duals=np.array(solution.col_dual) if dual else None,
        )

    def _bound(self, status: str, info: Any) -> float:
        """Return what is proven about the optimum from below."""
        if self._mip:
            return float(info.mip_dual_bound)
        return float(info.objective_function_value) if status == "optimal" else -np.inf


def _check(status: Any, what: str) -> None:
    """Refuse to go on after a call that HiGHS refused: that is a fault of ours, not of the input."""
    if status == highspy.HighsStatus.kError:
        raise RuntimeError(f"HiGHS refused {what}")
