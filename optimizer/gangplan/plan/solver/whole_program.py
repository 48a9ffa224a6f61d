"""The relaxed problem as one linear program: exact, and asked again in hundredths of a second, while it is small.

Small here is up to some ten thousand columns. Above, its first solution takes longer than all that the cuts take.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np

from gangplan.plan.model import build
from gangplan.plan.problem import Problem
from gangplan.plan.solver.highs import Answer, Array, Engine, Ints, compile_model
from gangplan.plan.solver.paths import Cut, Paths


class Whole:
    """Fleet and paths in one linear program, kept warm from one question to the next."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model: Any = build(problem)
        self.form = compile_model(self.model)
        model, shape = self.model, (len(problem.pools), len(problem.periods))
        self.nodes: Ints = self.form.columns_of([model.nodes[p, t] for p in model.P for t in model.T]).reshape(shape)
        self.engine = Engine(self.form, relaxed=True, seed=problem.settings.seed)

    def short_gpu_hours(self, values: Array) -> float:
        """Return the expected GPU-hours short."""
        model, lengths = self.model, self.problem.periods.lengths
        short = self.form.columns_of([model.short[w, t, k] for k in model.K for w in model.W for t in model.T])
        by_period = values[short].reshape(len(model.K), len(model.W), len(model.T)).sum(axis=1).mean(axis=0)
        return float(by_period @ np.array(lengths))

    def cuts(self, answer: Answer, paths: Paths) -> list[Cut]:
        """Read from the optimum's duals the cuts, one for each path, that prove it: with them the master ends there.

        A path's duals are those of its rows over the price of its cost, which is its weight in the objective.
        """
        assert answer.row_duals is not None  # noqa: S101 - the caller has looked whether it is optimal
        assert answer.column_duals is not None  # noqa: S101 - the same
        found: list[Cut] = []
        for k in self.model.K:
            weight = answer.row_duals[self.form.row[id(self.model.path_cost_is[k])]]
            rows, columns = paths.places(self.model, self.form, k)
            found.append(paths.cut(k, answer.row_duals[rows] / weight, answer.column_duals[columns] / weight))
        return found
