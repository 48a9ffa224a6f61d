"""The extensive form: both stages and all paths as one linear program, its fleet brought near whole nodes and rounded.

Its relaxation lets a fleet have fractions of nodes, which a small fleet gains much from. Rows that only whole nodes keep
(`rows`) take most of that away. A dive then rounds step by step.
"""

from __future__ import annotations

import numpy as np

from gangplan.plan.model import Ints, Model, build, compile_model
from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.highs import Engine, SolverResult, Work
from gangplan.plan.solver.recourse import Cut, RecoursePrograms
from gangplan.plan.solver.rows import WholeNodeRows

MOST_TURNS = 6
"""At most so often rows are added."""

HELPS = 5e-4
"""Rows are added again while the last ones brought the optimum up by this share."""

AT_A_TIME, NEARLY, WHOLE = 0.2, 0.1, 1e-6
"""A step of a dive sets this share of the nodes that are not whole yet, those nearest to being so, and all that are so
near; a node counts as whole within the last."""

LEAST_WEIGHT = 1e-3
"""A path that weighs less than this share of the mean weight gives no cut: its duals would be divided by nearly zero."""


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


class ExtensiveForm(FleetProgram):
    """Both stages and all paths in one program: exact, and fast while it has up to some ten thousand columns.

    With more columns its first solution takes longer than the whole decomposition.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, build(problem))

    def tighten(self, work: Work) -> SolverResult | None:
        """Solve the relaxed problem, and add rows of whole nodes while they bring its optimum up; None if it fails."""
        rows = WholeNodeRows(self.problem, self.model, self.form, self.nodes)
        result, before = self.engine.run(work), -np.inf
        for _ in range(MOST_TURNS):
            if result.values is None:
                return None
            broken = rows.broken_by(result.values)
            if not broken or result.objective - before <= HELPS * abs(result.objective) or work.ended:
                break
            before = result.objective
            for found in broken:
                self.engine.add_rows(found.lower, found.rows, found.columns, found.values)
            result = self.engine.run(work)
        self.engine.drop_slack_rows()
        return result

    def dive(self, relaxed: Array, threshold: float, work: Work) -> Counts:
        """Round a relaxed solution step by step: some nodes are set, which moves the others, until all are whole.

        `relaxed` are the values of all columns. What no step can set is rounded as it is, and may break a limit.
        """
        columns = self.nodes.ravel()
        lower, upper = self.form.lower[columns], self.form.upper[columns]
        nodes, unset = relaxed[columns], np.ones(len(columns), dtype=bool)
        while not work.ended:
            off = np.where(unset, np.abs(nodes - np.rint(nodes)), 0.0)
            broken = off > WHOLE
            if not broken.any():
                break
            wanted = np.clip(np.floor(nodes + 1 - threshold), lower, upper)
            nearest = np.argsort(np.where(broken, np.abs(nodes - wanted), np.inf), kind="stable")
            chosen = np.union1d(nearest[: int(np.ceil(AT_A_TIME * broken.sum()))], np.flatnonzero(broken & (off < NEARLY)))
            unset[chosen] = False
            self.engine.bound_columns(columns[chosen], wanted[chosen], wanted[chosen])
            result = self.engine.run(work)
            if result.values is None:
                break
            nodes = result.values[columns]
        self.engine.bound_columns(columns, lower, upper)
        return np.floor(nodes + 1 - threshold + 1e-9).astype(np.int64).reshape(self.nodes.shape)

    def branch(self, start: Counts, most_nodes: int, work: Work) -> SolverResult:
        """Branch and bound in whole numbers with the rows that were added, from a fleet, in at most so many nodes."""
        columns = self.nodes.ravel()
        fleet = start.ravel().astype(float)
        self.engine.bound_columns(columns, fleet, fleet)
        priced = self.engine.run(work)
        self.engine.bound_columns(columns, self.form.lower[columns], self.form.upper[columns])
        return self.engine.branch(priced.values, self.problem.settings.mip_gap, most_nodes, work)

    def short_gpu_hours(self, values: Array) -> float:
        """Return the expected GPU-hours short."""
        model, lengths = self.model, self.problem.periods.lengths
        short = self.form.columns_of([model.short[w, t, k] for k in model.K for w in model.W for t in model.T])
        by_period = values[short].reshape(len(model.K), len(model.W), len(model.T)).sum(axis=1).mean(axis=0)
        return float(by_period @ np.array(lengths))

    def cuts(self, result: SolverResult, programs: RecoursePrograms) -> list[Cut]:
        """Make from the optimum's duals the cuts, one for each path, that prove it: with them the master ends there.

        A path's duals are those of its rows, divided by the dual of its cost: its weight in the objective. A path that
        weighs nothing, because it costs nothing, needs no cut.
        """
        assert result.row_duals is not None  # noqa: S101 - the caller has checked that it is optimal
        assert result.column_duals is not None  # noqa: S101 - the same
        cuts: list[Cut] = []
        for k, cost_row in enumerate(self.form.rows_of(list(self.model.path_cost_is.values()))):
            weight = result.row_duals[cost_row]
            if weight < LEAST_WEIGHT / len(self.model.K):
                continue
            rows, columns = programs.places(self.model, self.form, k)
            cuts.append(programs.cut(k, result.row_duals[rows] / weight, result.column_duals[columns] / weight))
        return cuts
