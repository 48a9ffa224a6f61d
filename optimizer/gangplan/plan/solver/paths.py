"""The paths' linear programs: one warm HiGHS engine for each demand path, priced under a given fleet.

All paths share one matrix: `build_recourse` states it once, for the first path, and the others differ in what their
demand, their windows and their supply put into the bounds. A solve under another fleet changes only the right-hand
sides of the capacity rows, so that the dual simplex goes on from where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gangplan.plan.model import build_recourse
from gangplan.plan.problem import RISK_TAIL, RISK_WEIGHT, Problem
from gangplan.plan.solver.highs import Array, Engine, Ints, StandardForm, compile_model


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A bound on one path's cost that holds for every fleet, and for every demand.

    cost >= slope . nodes + by_demand . demand + by_window . deferrable + constant. `slope` has shape (pools, periods),
    `by_demand` and `by_window` (workloads, periods).
    """

    path: int
    slope: Array
    by_demand: Array
    by_window: Array
    constant: float

    def level(self, problem: Problem) -> float:
        """Return what it says at no nodes, for this problem's demand."""
        demand, window = problem.demand[self.path], problem.deferrable[self.path]
        return float((self.by_demand * demand).sum() + (self.by_window * window).sum()) + self.constant

    def at(self, problem: Problem, nodes: Array) -> float:
        """Return what it says at a fleet."""
        return self.level(problem) + float((self.slope * nodes).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Priced:
    """Each path's cost under one fleet, the values of its columns, and a cut that is exact there."""

    costs: Array
    values: tuple[Array, ...]
    cuts: tuple[Cut, ...]


def risk(costs: Array) -> float:
    """Price the paths' costs as the objective does: their mean, and the mean of the worst by the risk weight."""
    worst = np.sort(costs)[::-1]
    weight = np.clip(RISK_TAIL * len(costs) - np.arange(len(costs)), 0.0, 1.0) / (RISK_TAIL * len(costs))
    return float((1 - RISK_WEIGHT) * costs.mean() + RISK_WEIGHT * (worst @ weight))


class Paths:
    """All paths' engines, kept warm from one fleet to the next."""

    def __init__(self, problem: Problem) -> None:
        model = build_recourse(problem, 0)
        whole = compile_model(model)
        self.problem = problem
        self._shape = (len(problem.workloads), len(problem.periods))
        self.model, self._full = model, whole
        own = np.ones(len(whole.cost), dtype=bool)
        own[[whole.column[id(v)] for v in model.nodes.values() if id(v) in whole.column]] = False
        self.place = np.cumsum(own) - 1  # columns of the whole form -> columns of the engines
        self.form = StandardForm(
            cost=whole.cost[own],
            offset=whole.offset,
            matrix=whole.matrix[:, own],
            row_lower=whole.row_lower,
            row_upper=whole.row_upper,
            lower=whole.lower[own],
            upper=whole.upper[own],
            whole=whole.whole[own],
            column={},
            row=whole.row,
        )
        self._rows()
        self._engines: list[Engine | None] = [None] * len(problem.paths)

    def rebind(self, problem: Problem) -> None:
        """Go on with another problem whose paths have the same matrix and prices, the engines kept warm."""
        same, self.problem = self.problem is problem, problem
        for k, engine in enumerate(self._engines):
            if engine is not None and not same:
                self._bound_path(engine, k)

    def columns_of(self, variables: list[Any]) -> Ints:
        """Return the engines' columns of the model's variables."""
        return self.place[self._full.columns_of(variables)].astype(np.int32)

    def _rows(self) -> None:
        """Find the rows whose bounds are the demand's and the fleet's, and the columns bounded by the windows."""
        model, row = self.model, self.form.row
        self._demand = np.array([row[id(model.demand_balance[w, t, 0])] for w in model.W for t in model.T], np.int32)
        self._served: list[int] = list(dict.fromkeys(g for g, _, _ in model.capacity))
        self._capacity = np.array(
            [row[id(model.capacity[g, t, 0])] for g in self._served for t in model.T], dtype=np.int32
        )
        self.short = self.columns_of([model.short[w, t, 0] for w in model.W for t in model.T])
        self._waiting = list(model.waiting)
        backlog = [model.backlog[w, t, 0] for w in self._waiting for t in model.T]
        self._backlog = self.columns_of(backlog)
        self.hire = self.columns_of([model.hire[p, t, 0] for p in self.problem.hired for t in model.T])
        member = np.zeros((len(self._served), len(self.problem.pools)))
        for at, g in enumerate(self._served):
            member[at, list(self.problem.groups[g].pools)] = 1.0
        self._room = member[None] * self.problem.usable_gpus  # (1, served groups, pools)

    def price(self, nodes: Array, seconds: float = np.inf) -> Priced | None:
        """Find each path's cheapest service under a fleet (not whole, perhaps); none when the time is over.

        `nodes` are one fleet for all paths, shape (pools, periods), or one for each, shape (paths, pools, periods).
        """
        answers: list[Any] = []
        fleets = np.broadcast_to(nodes, (len(self._engines), *nodes.shape[-2:]))
        for k, fleet in enumerate(fleets):
            answer = self._engine(k, fleet).run(seconds)
            if answer.values is None:
                return None
            answers.append(answer)
        return Priced(
            costs=np.array([answer.objective for answer in answers]),
            values=tuple(answer.values for answer in answers),
            cuts=tuple(self.cut(k, one.row_duals, one.column_duals) for k, one in enumerate(answers)),
        )

    def _engine(self, k: int, nodes: Array) -> Engine:
        """Return a path's engine with that fleet's room in its bounds; a new one begins where its neighbour stands."""
        engine = self._engines[k]
        if engine is None:
            engine = self._engines[k] = Engine(self.form, relaxed=True, seed=self.problem.settings.seed)
            self._bound_path(engine, k)
            if k and (neighbour := self._engines[k - 1]) is not None:
                engine.basis = neighbour.basis
        room = np.einsum("gp,pt->gt", self._room[0], self.problem.supply[k] * nodes).ravel()
        engine.bound_rows(self._capacity, np.full(len(room), -np.inf), np.maximum(room, 0.0))
        return engine

    def _bound_path(self, engine: Engine, k: int) -> None:
        """Put a path's demand and windows into its engine's bounds."""
        amounts = (self.problem.demand[k] * np.array(self.problem.periods.lengths)).ravel()
        engine.bound_rows(self._demand, amounts, amounts)
        if len(self._backlog):
            windows = self.problem.deferrable[k, self._waiting].ravel()
            engine.bound_columns(self._backlog, np.zeros(len(windows)), windows)

    def places(self, model: Any, form: StandardForm, k: int) -> tuple[Ints, Ints]:
        """Return where a path's rows and columns stand in the whole problem's form, in the order of this one's."""
        rows = np.zeros(len(self.form.row_lower), dtype=np.int32)
        for name in ("demand_balance", "capacity", "quota"):
            for (*key, _), row in self.model.component(name).items():
                rows[self.form.row[id(row)]] = form.row[id(model.component(name)[*key, k])]
        columns = np.zeros(len(self.form.cost), dtype=np.int32)
        for name in ("serve", "short", "backlog"):
            own, there = self.model.component(name), model.component(name)
            columns[self.columns_of(list(own.values()))] = form.columns_of([there[*key, k] for *key, _ in own])
        return rows, columns

    def cut(self, k: int, rows: Array, columns: Array) -> Cut:
        """Read a cut from a path's duals: they stay feasible whatever the fleet and the demand are."""
        per_gpu = np.minimum(rows[self._capacity], 0.0).reshape(len(self._served), self._shape[1])
        slope = np.einsum("gp,gt->pt", self._room[0], per_gpu) * self.problem.supply[k]
        by_demand = rows[self._demand].reshape(self._shape) * np.array(self.problem.periods.lengths)
        by_window = np.zeros(self._shape)
        if len(self._backlog):
            by_window[self._waiting] = np.minimum(columns[self._backlog], 0.0).reshape(
                len(self._waiting), self._shape[1]
            )
        constant = self._ceilings(rows) + self._limits(columns)
        return Cut(path=k, slope=slope, by_demand=by_demand, by_window=by_window, constant=constant)

    def _ceilings(self, rows: Array) -> float:
        """What the rows that neither fleet nor demand moves (quotas) add to a cut."""
        still = np.ones(len(rows), dtype=bool)
        still[self._demand] = still[self._capacity] = False
        return float(np.minimum(rows[still], 0.0) @ self.form.row_upper[still]) if still.any() else 0.0

    def _limits(self, columns: Array) -> float:
        """What the limits of the nodes that a path takes add to a cut."""
        if not len(self.hire):
            return 0.0
        at = columns[self.hire]
        return float(
            np.minimum(at, 0.0) @ self.form.upper[self.hire] + np.maximum(at, 0.0) @ self.form.lower[self.hire]
        )
