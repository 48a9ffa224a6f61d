"""Pyomo with types: what models are stated in, and the arrays that a solver reads. Pyomo has no type stubs.

The garbage collector pauses while Pyomo makes objects: it makes hundreds of thousands and drops none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as untyped_pyomo  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from pyomo.common.gc_manager import PauseGC as PauseGC  # pyright: ignore[reportMissingTypeStubs]
from pyomo.repn.plugins.standard_form import (  # pyright: ignore[reportMissingTypeStubs]
    LinearStandardFormCompiler,
)

from gangplan.plan.problem import Array

pyo: Any = untyped_pyomo

Ints = NDArray[np.int32]
Model = Any  # Pyomo gives models their attributes at run time
Expression = Any
Bounds = tuple[Any, Any]
Rule = (
    Callable[[Model, int], Any]
    | Callable[[Model, int, int], Any]
    | Callable[[Model, int, int, int], Any]
    | Callable[..., Any]
)  # of the model and the indices
SKIP = pyo.Constraint.Skip


def new_model(name: str) -> Model:
    """Return an empty model."""
    return pyo.ConcreteModel(name)


def variable(*sets: Any, bounds: Bounds | Rule = (0, None), whole: bool = False) -> Any:
    """Return variables over index sets, by default not negative; `whole` ones take whole numbers."""
    return pyo.Var(*sets, bounds=bounds, domain=pyo.Integers if whole else pyo.Reals)


def constraint(*sets: Any, rule: Rule) -> Any:
    """Return constraints over index sets."""
    return pyo.Constraint(*sets, rule=rule)


def single_constraint(relation: Expression) -> Any:
    """Return one constraint."""
    return pyo.Constraint(expr=relation)


def expression(value: Expression) -> Expression:
    """Return an expression with a name of its own."""
    return pyo.Expression(expr=value)


def minimize(cost: Expression) -> Any:
    """Return the objective."""
    return pyo.Objective(expr=cost, sense=pyo.minimize)


@dataclass(frozen=True, kw_only=True, eq=False)
class StandardForm:
    """min cost x + offset, row_lower <= matrix x <= row_upper, lower <= x <= upper, some x whole.

    `matrix` is a scipy.sparse.csc_array; `column` and `row` map the ids of Pyomo's variables and constraints.
    """

    cost: Array
    offset: float
    matrix: Any
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

    def rows_of(self, constraints: Sequence[Any]) -> Ints:
        """Return the rows of Pyomo constraints."""
        return np.array([self.row[id(constraint)] for constraint in constraints], dtype=np.int32)


def compile_model(model: Model) -> StandardForm:
    """Write a model in standard form."""
    with PauseGC():
        compiler: Any = LinearStandardFormCompiler()
        compiled = compiler.write(model, mixed_form=True)
        rhs = np.asarray(compiled.rhs, dtype=float)
        sign = np.array([entry.bound_type for entry in compiled.rows])
        bounds: list[Bounds] = [variable.bounds for variable in compiled.columns]
        return StandardForm(
            cost=compiled.c.toarray()[0],
            offset=float(compiled.c_offset[0]),
            matrix=compiled.A,
            row_lower=np.where(sign <= 0, rhs, -np.inf),
            row_upper=np.where(sign >= 0, rhs, np.inf),
            lower=np.array([-np.inf if low is None else low for low, _ in bounds], dtype=float),
            upper=np.array([np.inf if high is None else high for _, high in bounds], dtype=float),
            whole=np.array([variable.is_integer() for variable in compiled.columns]),
            column={id(variable): index for index, variable in enumerate(compiled.columns)},
            row={id(entry.constraint): index for index, entry in enumerate(compiled.rows)},
        )
