"""The extensive form: both stages and all paths as one linear program, brought near whole nodes and rounded.

Its relaxation lets a fleet have fractions of nodes, and a small fleet would gain much from them. Rows that only whole
nodes keep (`rows`) take most of that away. A dive then rounds step by step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as untyped_sparse  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import Ints, Model, StandardForm
from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.highs import Engine, Integers, SolverResult, Work
from gangplan.plan.solver.recourse import Cut, RecoursePrograms
from gangplan.plan.solver.rows import WholeNodeRows

sparse: Any = untyped_sparse

MOST_TURNS = 6
"""At most so often rows are added."""

HELPS = 5e-4
"""Rows are added again while the last ones brought the optimum up by this share."""

AT_A_TIME, NEARLY, WHOLE = 0.2, 0.1, 1e-6
"""A step of a dive sets this share of the nodes that are not whole yet, those nearest to being so, and all that are so
near; a node counts as whole within the last."""

LEAST_WEIGHT = 1e-3
"""A path that weighs less than this share of the mean weight gives no cut: its duals would be divided by nearly 0."""


class FleetProgram:
    """A model with the fleet's nodes in it, in standard form and as a linear program with a warm start.

    `nodes` are the columns of the fleet, shape (pools, periods).
    """

    def __init__(self, problem: Problem, model: Model, form: StandardForm) -> None:
        self.problem, self.model, self.form = problem, model, form
        nodes = self.form.columns_of([model.nodes[p, t] for p in model.P for t in model.T])
        self.nodes: Ints = nodes.reshape(len(problem.pools), len(problem.periods))
        self.engine = Engine(self.form, relaxed=True, seed=problem.settings.seed)


class ExtensiveForm(FleetProgram):
    """The master and the programs of all paths in one: exact, and fast while it has up to some ten thousand columns.

    With more columns its first solution takes longer than the whole decomposition.
    """

    def __init__(self, master: FleetProgram, programs: RecoursePrograms) -> None:
        super().__init__(master.problem, master.model, _join(master, programs))
        self._programs = programs
        rows, columns = len(programs.form.row_lower), len(programs.form.cost)
        paths = np.arange(len(self.problem.paths))[:, None]
        self._rows = len(master.form.row_lower) + rows * paths + np.arange(rows)  # shape (paths, rows of each)
        self._columns = len(master.form.cost) + columns * paths + np.arange(columns)

    @cached_property
    def _whole_rows(self) -> WholeNodeRows:
        """The rows that only whole nodes keep."""
        starts = self.form.columns_of(list(self.model.start.values())).reshape(self.nodes.shape)
        programs = self._programs
        short = self._columns[:, programs.short].reshape(-1, *programs.backlog.shape)
        waiting = np.where(programs.backlog < 0, -1, self._columns[:, programs.backlog])
        return WholeNodeRows(self.problem, self.nodes, starts, short, waiting)

    def _strengthen(self, result: SolverResult, work: Work) -> SolverResult:
        """Add the rows that a solution breaks, and solve again."""
        broken = None if result.values is None else self._whole_rows.broken_by(result.values)
        if broken is None:
            return result
        self.engine.add_rows(broken.lower, broken.rows, broken.columns, broken.values)
        return self.engine.run(work)

    def tighten(self, work: Work) -> SolverResult:
        """Solve the relaxed problem, and add rows of whole nodes while they bring its optimum up."""
        result, before = self.engine.run(work), -np.inf
        for _ in range(MOST_TURNS):
            if result.objective - before <= HELPS * abs(result.objective) or work.ended:
                break
            before, result = result.objective, self._strengthen(result, work)
        self.engine.drop_slack_rows()
        return result

    def dive(self, relaxed: Array, threshold: float, again: bool, work: Work) -> Counts:
        """Round a relaxed solution step by step: some nodes are set, which moves the others, until all are whole.

        `relaxed` are the values of all columns. With `again`, rows are added after each step: this finds cheaper fleets
        and takes three times as long. What no step can set is rounded as it is, and may break a limit.
        """
        columns = self.nodes.ravel()
        lower, upper = self.form.lower[columns], self.form.upper[columns]
        nodes, unset = relaxed[columns], np.ones(len(columns), dtype=bool)
        with self.engine.trial():
            while not work.ended:
                off = np.where(unset, np.abs(nodes - np.rint(nodes)), 0.0)
                wanted = np.clip(np.floor(nodes + 1 - threshold), lower, upper)
                chosen = _nearest(off, np.abs(nodes - wanted))
                if not len(chosen):
                    break
                unset[chosen] = False
                self.engine.bound_columns(columns[chosen], wanted[chosen], wanted[chosen])
                result = self.engine.run(work)
                result = self._strengthen(result, work) if again else result
                if result.values is None:
                    break
                nodes = result.values[columns]
        return np.floor(nodes + 1 - threshold + 1e-9).astype(np.int64).reshape(self.nodes.shape)

    def branch(self, start: Counts, most_nodes: int, work: Work) -> SolverResult:
        """Branch and bound in whole numbers with the rows that were added, from a fleet, in at most so many nodes."""
        fleet = start.ravel().astype(float)
        with self.engine.trial():
            self.engine.bound_columns(self.nodes.ravel(), fleet, fleet)
            priced = self.engine.run(work)
        return self.engine.branch(priced.values, self.problem.settings.mip_gap, most_nodes, work)

    def short_gpu_hours(self, values: Array) -> float:
        """Return the expected GPU-hours short."""
        short = values[self._columns[:, self._programs.short]].mean(axis=0)
        return float(short.reshape(-1, len(self.problem.periods)).sum(axis=0) @ np.array(self.problem.periods.lengths))

    def cuts(self, result: SolverResult) -> list[Cut]:
        """Make from the optimum's duals the cuts, one for each path, that prove it: with them the master ends there.

        A path's duals are those of its rows, divided by the dual of its cost: its weight in the objective. A path that
        weighs nothing, because it costs nothing, needs no cut.
        """
        assert result.row_duals is not None  # noqa: S101 - the caller has checked that it is optimal
        assert result.column_duals is not None  # noqa: S101 - the same
        weights = result.row_duals[-len(self._rows) :]
        return [
            self._programs.cut(
                k, result.row_duals[self._rows[k]] / weight, result.column_duals[self._columns[k]] / weight
            )
            for k, weight in enumerate(weights)
            if weight > LEAST_WEIGHT / len(weights)
        ]


def _nearest(off: Array, away: Array) -> Integers:
    """Choose what a step of a dive sets, by how far each is from a whole number, and from the one that it shall be."""
    broken = off > WHOLE
    order = np.argsort(np.where(broken, away, np.inf), kind="stable")
    return np.union1d(order[: int(np.ceil(AT_A_TIME * broken.sum()))], np.flatnonzero(broken & (off < NEARLY)))


def _join(master: FleetProgram, programs: RecoursePrograms) -> StandardForm:
    """Put the paths' programs below the master's, then a row for each path that says what it costs."""
    first, path_cost = master.form, master.form.columns_of(list(master.model.path_cost.values()))
    paths, by_nodes = zip(*(programs.path_form(k) for k in range(len(path_cost))), strict=True)
    count, costs = len(paths), np.concatenate([path.cost for path in paths])
    at_nodes = sparse.csc_array(
        (np.ones(master.nodes.size), (np.arange(master.nodes.size), master.nodes.ravel())),
        shape=(master.nodes.size, len(first.cost)),
    )
    of_path = np.repeat(np.arange(count), [len(path.cost) for path in paths])
    defined = sparse.csc_array((np.ones(count), (np.arange(count), path_cost)), shape=(count, len(first.cost)))
    spent = sparse.csc_array((-costs, (of_path, np.arange(len(costs)))))
    offsets = np.array([path.offset for path in paths])
    matrix = sparse.block_array(
        [
            [first.matrix, None],
            [sparse.vstack(by_nodes) @ at_nodes, sparse.block_diag([path.matrix for path in paths])],
            [defined, spent],
        ],
        format="csc",
    )
    return replace(
        first,
        cost=np.concatenate([first.cost, np.zeros(len(costs))]),
        matrix=matrix,
        row_lower=np.concatenate([first.row_lower, *(path.row_lower for path in paths), offsets]),
        row_upper=np.concatenate([first.row_upper, *(path.row_upper for path in paths), offsets]),
        lower=np.concatenate([first.lower, *(path.lower for path in paths)]),
        upper=np.concatenate([first.upper, *(path.upper for path in paths)]),
        whole=np.concatenate([first.whole, *(path.whole for path in paths)]),
    )
