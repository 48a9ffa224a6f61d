"""The programs that decide the fleet: the master of the decomposition, and the extensive form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gangplan.plan.model import Ints, Model, build, build_master, compile_model
from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.highs import Engine, SolverResult
from gangplan.plan.solver.recourse import Cut, RecoursePrograms, RecourseResult, risk


class FleetProgram:
    """A model with the fleet's nodes in it, in standard form and as a linear program with a warm start.

    `nodes` are the columns of the fleet, shape (pools, periods).
    """

    def __init__(self, problem: Problem, model: Model) -> None:
        self.problem, self.model = problem, model
        self.form = compile_model(model)
        nodes = self.form.columns_of([model.nodes[p, t] for p in model.P for t in model.T])
        self.nodes: Ints = nodes.reshape(len(problem.pools), len(problem.periods))
        self.engine = Engine(self.form, relaxed=True, seed=problem.settings.seed)


class Master(FleetProgram):
    """The first stage with the cuts on the paths' costs; a second engine prices a given fleet."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, build_master(problem))
        model = self.model
        self._path_cost = self.form.columns_of([model.path_cost[k] for k in model.K])
        of_paths = [model.tail_level, *model.tail_excess.values(), *model.path_cost.values()]
        self._fleet_cost = self.form.cost.copy()
        self._fleet_cost[self.form.columns_of(of_paths)] = 0.0
        self._pricing = Engine(self.form, relaxed=True, seed=problem.settings.seed)

    def begin_at(self, other: Master) -> None:
        """Start from the bases of another problem's master, if it has the same shape."""
        if self.form.matrix.shape == other.form.matrix.shape:
            self.engine.basis = other.engine.basis
            self._pricing.basis = other._pricing.basis

    def complete(self, nodes: Array | Counts) -> Array:
        """Return the values of all columns for these nodes: starts, slacks, commitments."""
        flat = nodes.ravel().astype(float)
        self._pricing.bound_columns(self.nodes.ravel(), flat, flat)
        result = self._pricing.run()
        if result.values is None:
            raise RuntimeError(f"HiGHS could not price a fixed fleet: {result.status}")
        return result.values

    def relaxed(self) -> tuple[Array, float]:
        """Return the best fleet in fractions under the cuts, and its price: no fleet is cheaper."""
        result = self.engine.run()
        if result.values is None:
            raise RuntimeError(f"HiGHS could not solve the master: {result.status}")
        return result.values[self.nodes], result.objective

    def price(self, values: Array, recourse: RecourseResult) -> float:
        """Return the objective: the cost of the fleet and of the paths."""
        return float(self._fleet_cost @ values) + self.form.offset + risk(recourse.costs)

    def add(self, cuts: Sequence[Cut]) -> None:
        """Bound the paths' costs by cuts."""
        slopes = np.stack([cut.slope.ravel() for cut in cuts])
        used = slopes != 0
        rows, places = np.nonzero(used)
        paths = self._path_cost[[cut.path for cut in cuts]]
        self.engine.add_rows(
            np.array([cut.level(self.problem) for cut in cuts]),
            np.concatenate([np.arange(len(cuts)), rows]),
            np.concatenate([paths, self.nodes.ravel()[places]]),
            np.concatenate([np.ones(len(cuts)), -slopes[used]]),
        )


class ExtensiveForm(FleetProgram):
    """Both stages and all paths in one program: exact, and fast while it has up to some ten thousand columns.

    With more columns its first solution takes longer than the whole decomposition.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, build(problem))

    def short_gpu_hours(self, values: Array) -> float:
        """Return the expected GPU-hours short."""
        model, lengths = self.model, self.problem.periods.lengths
        short = self.form.columns_of([model.short[w, t, k] for k in model.K for w in model.W for t in model.T])
        by_period = values[short].reshape(len(model.K), len(model.W), len(model.T)).sum(axis=1).mean(axis=0)
        return float(by_period @ np.array(lengths))

    def cuts(self, result: SolverResult, programs: RecoursePrograms) -> list[Cut]:
        """Make from the optimum's duals the cuts, one for each path, that prove it: with them the master ends there.

        A path's duals are those of its rows, divided by the dual of its cost: its weight in the objective.
        """
        assert result.row_duals is not None  # noqa: S101 - the caller has checked that it is optimal
        assert result.column_duals is not None  # noqa: S101 - the same
        cuts: list[Cut] = []
        for k, cost_row in enumerate(self.form.rows_of(list(self.model.path_cost_is.values()))):
            weight = result.row_duals[cost_row]
            rows, columns = programs.places(self.model, self.form, k)
            cuts.append(programs.cut(k, result.row_duals[rows] / weight, result.column_duals[columns] / weight))
        return cuts
