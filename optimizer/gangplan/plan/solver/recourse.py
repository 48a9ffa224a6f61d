"""The second stage as linear programs, one for each demand path, and the cuts that their duals give.

All paths share one matrix: `build_recourse` states it once, for the first path. The others differ in the bounds that
come from their demand, their waiting work and their supply. Another fleet changes only the right-hand sides of the
capacity rows, so the dual simplex has a warm start.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csc_array  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import Ints, StandardForm, build_recourse, compile_model
from gangplan.plan.problem import RISK_TAIL, RISK_WEIGHT, Array, Counts, Problem
from gangplan.plan.solver.highs import Engine, Work


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A lower bound on one path's cost that holds for every fleet and every demand (a Benders optimality cut).

    cost >= slope . nodes + by_demand . demand + by_window . deferrable + by_carbon * carbon room + constant

    `slope` has shape (pools, periods), `by_demand` and `by_window` (workloads, periods).
    """

    path: int
    slope: Array
    by_demand: Array
    by_window: Array
    constant: float
    by_carbon: float = 0.0

    def level(self, problem: Problem) -> float:
        """Return the bound without any nodes, for this problem's demand."""
        demand, waiting = problem.demand[self.path], problem.deferrable[self.path]
        fixed = self.constant + self.by_carbon * problem.carbon_room
        return float((self.by_demand * demand).sum() + (self.by_window * waiting).sum()) + fixed

    def at(self, problem: Problem, nodes: Array) -> float:
        """Return the bound for a fleet."""
        return self.level(problem) + float((self.slope * nodes).sum())


_FIELDS = ("path", "slope", "by_demand", "by_window", "constant", "by_carbon")


@dataclass(frozen=True, kw_only=True, eq=False)
class RecourseResult:
    """Each path's cost under one fleet, the values of its columns, and a cut that is exact for that fleet."""

    costs: Array
    values: tuple[Array, ...]
    cuts: tuple[Cut, ...]


def risk(costs: Array) -> float:
    """Weigh the paths' costs as the objective does: their mean, and the mean of the worst ones (CVaR)."""
    worst = np.sort(costs)[::-1]
    weight = np.clip(RISK_TAIL * len(costs) - np.arange(len(costs)), 0.0, 1.0) / (RISK_TAIL * len(costs))
    return float((1 - RISK_WEIGHT) * costs.mean() + RISK_WEIGHT * (worst @ weight))


class RecoursePrograms:
    """The programs of all paths; each has a warm start from the fleet before.

    The fleet's nodes are no columns of theirs: they are in the bounds of the capacity rows.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, build_recourse(problem, 0)
        self._shape = (len(problem.workloads), len(problem.periods))
        self._with_nodes = form = compile_model(self.model)
        own = np.ones(len(form.cost), dtype=bool)
        own[[form.column[id(node)] for node in self.model.nodes.values() if id(node) in form.column]] = False
        self._own_column = np.cumsum(own) - 1  # from columns with those of the nodes to columns without
        self.form = replace(
            form,
            cost=form.cost[own],
            matrix=form.matrix[:, own],
            lower=form.lower[own],
            upper=form.upper[own],
            whole=form.whole[own],
            column={},
        )
        self._find_rows()
        self._engines: list[Engine | None] = [None] * len(problem.paths)

    def rebind(self, problem: Problem) -> None:
        """Continue, with a warm start, on another problem whose paths have the same matrix and prices."""
        same, self.problem = self.problem is problem, problem
        for k, engine in enumerate(self._engines):
            if engine is not None and not same:
                self._bound_path(engine, k)

    def columns_of(self, variables: Sequence[Any]) -> Ints:
        """Return the columns of the model's variables."""
        return self._own_column[self._with_nodes.columns_of(variables)].astype(np.int32)

    def _find_rows(self) -> None:
        """Find the rows bounded by the demand and by the fleet, and the columns bounded by the work that may wait."""
        model = self.model
        self._demand = self.form.rows_of([model.demand_balance[w, t, 0] for w in model.W for t in model.T])
        self._served: list[int] = list(dict.fromkeys(g for g, _, _ in model.capacity))
        self._capacity = self.form.rows_of([model.capacity[g, t, 0] for g in self._served for t in model.T])
        self.short = self.columns_of([model.short[w, t, 0] for w in model.W for t in model.T])
        self._waiting: list[int] = list(model.waiting)
        self._backlog = self.columns_of([model.backlog[w, t, 0] for w in self._waiting for t in model.T])
        self.backlog = np.full(self._shape, -1, dtype=np.int32)  # -1: work that may not wait
        self.backlog[self._waiting] = self._backlog.reshape(-1, self._shape[1])
        self.hire = self.columns_of([model.hire[p, t, 0] for p in self.problem.hired for t in model.T])
        self._carbon = self.form.rows_of(list(model.path_carbon.values()))
        self._emission = self.problem.carbon * np.array(self.problem.periods.lengths)  # kg, shape (pools, periods)
        member = np.zeros((len(self._served), len(self.problem.pools)))
        for index, g in enumerate(self._served):
            member[index, list(self.problem.groups[g].pools)] = 1.0
        self._gpus = member * self.problem.usable_gpus  # GPUs per node, shape (served groups, pools)

    def price(self, nodes: Array, work: Work | None = None) -> RecourseResult | None:
        """Serve each path as cheaply as a fleet allows; None when the seconds are over.

        Parameters
        ----------
        nodes : one fleet for all paths, shape (pools, periods), or one for each, shape (paths, pools, periods);
            fractions are allowed
        """
        costs, values, cuts = np.zeros(len(self._engines)), list[Array](), list[Cut]()
        fleets = np.broadcast_to(nodes, (len(self._engines), *nodes.shape[-2:]))
        for k, fleet in enumerate(fleets):
            result = self._engine(k, fleet).run(work)
            if result.values is None or result.row_duals is None or result.column_duals is None:
                return None
            costs[k] = result.objective
            values.append(result.values)
            cuts.append(self.cut(k, result.row_duals, result.column_duals))
        return RecourseResult(costs=costs, values=tuple(values), cuts=tuple(cuts))

    def short_gpus(self, result: RecourseResult) -> Array:
        """Return the GPUs short, shape (paths, workloads, periods)."""
        return np.stack(result.values)[:, self.short].reshape(-1, *self._shape)

    def carbon_kg(self, result: RecourseResult, nodes: Array | Counts) -> float:
        """Return the kilograms of carbon dioxide that nodes emit, the same or others on each path, in the mean."""
        return float(
            (self._emission * nodes).sum(axis=(-2, -1)).mean() + (np.stack(result.values) @ self._work_kg).mean()
        )

    @cached_property
    def _work_kg(self) -> Array:
        """Kilograms of carbon dioxide for each GPU that a column has at work, beyond an idle one."""
        problem, model = self.problem, self.model
        per_kwh = problem.energy[1] * np.array(problem.periods.lengths)
        draws = [(model.serve, route, route[1], problem.kw_at_work(route[1])) for route in model.routes]
        draws += [(model.capped, (i,), mode.group, mode.kw) for i, mode in enumerate(problem.modes)]
        kilograms = np.zeros(len(self.form.cost))
        for component, first, g, kw in draws:
            if kw:
                kilograms[self.columns_of([component[(*first, t, 0)] for t in model.T])] = kw * per_kwh[g]
        return kilograms

    def _engine(self, k: int, nodes: Array) -> Engine:
        """Return a path's engine with the fleet's capacity as bounds; a new one starts from its neighbour's basis."""
        engine = self._engines[k]
        if engine is None:
            engine = self._engines[k] = Engine(self.form, relaxed=True, seed=self.problem.settings.seed)
            self._bound_path(engine, k)
            if k and (neighbour := self._engines[k - 1]) is not None:
                engine.basis = neighbour.basis
        capacity = np.einsum("gp,pt->gt", self._gpus, self.problem.supply[k] * nodes).ravel()
        engine.bound_rows(self._capacity, np.full(len(capacity), -np.inf), np.maximum(capacity, 0.0))
        if len(self._carbon):
            room = self.problem.carbon_room - (self._emission * nodes).sum()
            engine.bound_rows(self._carbon, np.array([-np.inf]), np.array([room]))
        return engine

    def _bound_path(self, engine: Engine, k: int) -> None:
        """Set a path's demand, and the work that may wait, as bounds of its engine."""
        amounts, deferrable = self._amounts(k)
        engine.bound_rows(self._demand, amounts, amounts)
        if len(self._backlog):
            engine.bound_columns(self._backlog, np.zeros(len(deferrable)), deferrable)

    def _amounts(self, k: int) -> tuple[Array, Array]:
        """Return a path's GPU-hours of demand and of work that may wait, as bounds have them."""
        amounts = (self.problem.demand[k] * np.array(self.problem.periods.lengths)).ravel()
        return amounts, self.problem.deferrable[k, self._waiting].ravel()

    def path_form(self, k: int) -> tuple[StandardForm, Any]:
        """Return a path's program without nodes, and what each node adds to its rows, shape (rows, pools x periods)."""
        amounts, deferrable = self._amounts(k)
        lower, upper, most = self.form.row_lower.copy(), self.form.row_upper.copy(), self.form.upper.copy()
        lower[self._demand] = upper[self._demand] = amounts
        lower[self._capacity], upper[self._capacity], most[self._backlog] = -np.inf, 0.0, deferrable
        upper[self._carbon] = self.problem.carbon_room
        pools, periods = self.problem.supply.shape[1:]
        g, p, t = np.nonzero(self._gpus[:, :, None] * np.ones(periods))
        rows, columns = self._capacity[g * periods + t], p * periods + t
        values = -self._gpus[g, p] * self.problem.supply[k, p, t]
        if len(self._carbon):
            every = np.arange(self._emission.size)
            rows, columns = np.append(rows, np.repeat(self._carbon, len(every))), np.append(columns, every)
            values = np.append(values, self._emission)
        by_nodes = csc_array((values, (rows, columns)), shape=(len(lower), pools * periods))
        return replace(self.form, row_lower=lower, row_upper=upper, upper=most), by_nodes

    def cut(self, k: int, rows: Array, columns: Array) -> Cut:
        """Make a cut from a path's duals: they are feasible for every fleet and every demand."""
        per_gpu = np.minimum(rows[self._capacity], 0.0).reshape(len(self._served), self._shape[1])
        slope = np.einsum("gp,gt->pt", self._gpus, per_gpu) * self.problem.supply[k]
        by_demand = rows[self._demand].reshape(self._shape) * np.array(self.problem.periods.lengths)
        by_window = np.zeros(self._shape)
        if len(self._backlog):
            by_window[self._waiting] = np.minimum(columns[self._backlog], 0.0).reshape(-1, self._shape[1])
        by_carbon = float(np.minimum(rows[self._carbon], 0.0).sum())
        return Cut(
            path=k,
            slope=slope - by_carbon * self._emission,
            by_demand=by_demand,
            by_window=by_window,
            constant=self._quota_term(rows) + self._hire_term(columns),
            by_carbon=by_carbon,
        )

    def _quota_term(self, rows: Array) -> float:
        """Return what the quotas, which neither fleet nor demand changes, add to a cut."""
        fixed = np.ones(len(rows), dtype=bool)
        fixed[self._demand] = fixed[self._capacity] = fixed[self._carbon] = False
        return float(np.minimum(rows[fixed], 0.0) @ self.form.row_upper[fixed])

    def _hire_term(self, columns: Array) -> float:
        """Return what the limits of the nodes that a path takes add to a cut."""
        duals, lower, upper = columns[self.hire], self.form.lower[self.hire], self.form.upper[self.hire]
        return float(np.minimum(duals, 0.0) @ upper + np.maximum(duals, 0.0) @ lower)


def cuts_to_bytes(cuts: Sequence[Cut]) -> bytes:
    """Pack cuts, to be kept with a plan; none give no bytes."""
    if not cuts:
        return b""
    buffer = io.BytesIO()
    columns: dict[str, Any] = {name: [getattr(cut, name) for cut in cuts] for name in _FIELDS}
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def cuts_from_bytes(packed: bytes) -> tuple[Cut, ...]:
    """Unpack cuts."""
    if not packed:
        return ()
    with np.load(io.BytesIO(packed)) as arrays:
        columns = [arrays[name] for name in _FIELDS if name in arrays]  # cuts of older plans have no carbon
    return tuple(
        Cut(
            path=int(k),
            slope=slope,
            by_demand=demand,
            by_window=window,
            constant=float(constant),
            by_carbon=sum(carbon),
        )
        for k, slope, demand, window, constant, *carbon in zip(*columns, strict=True)
    )
