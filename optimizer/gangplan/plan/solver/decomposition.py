"""The L-shaped method: a master that decides the fleet, one warm linear program for each path, cuts between them.

After Van Slyke and Wets (1969), with a cut for each path and CVaR exact in the master. The next fleet to try lies
between the master's and the best so far (in-out separation, Ben-Ameur and Neto 2007), which keeps it from swinging; the
first is the plan for the mean demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import build_master
from gangplan.plan.problem import Counts, Problem
from gangplan.plan.solver.highs import Array, Engine, compile_model
from gangplan.plan.solver.paths import Cut, Paths, Priced, risk
from gangplan.plan.solver.whole_program import Whole

TOWARDS_MASTER = 0.35
"""How far from the best point so far towards the master's the next point lies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A fleet, whole or not, with all it brings: the master's columns, its price, and the paths under it."""

    values: Array
    nodes: Array
    objective: float
    priced: Priced


class Master:
    """The fleet's part of the problem as linear programs: one with the paths' cuts, one to price a given fleet."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = build_master(problem)
        self.form = compile_model(self.model)
        model, shape = self.model, (len(problem.pools), len(problem.periods))
        self.nodes = self.form.columns_of([model.nodes[p, t] for p in model.P for t in model.T]).reshape(shape)
        self._path_cost = self.form.columns_of([model.path_cost[k] for k in model.K])
        behind = [model.tail_level, *model.tail_excess.values(), *model.path_cost.values()]
        self._fleet_cost = self.form.cost.copy()
        self._fleet_cost[self.form.columns_of(behind)] = 0.0
        self.engine = Engine(self.form, relaxed=True, seed=problem.settings.seed)
        self._pricing = Engine(self.form, relaxed=True, seed=problem.settings.seed)

    def begin_at(self, other: Master) -> None:
        """Begin where another problem's master ended, if the two have the same shape."""
        if self.form.matrix.shape == other.form.matrix.shape:
            self.engine.basis = other.engine.basis
            self._pricing.basis = other._pricing.basis

    def complete(self, nodes: Array | Counts) -> Array:
        """Return the master's columns that go with these nodes: starts, slacks, commitments."""
        flat = nodes.ravel().astype(float)
        self._pricing.bound_columns(self.nodes.ravel(), flat, flat)
        answer = self._pricing.run(np.inf)
        if answer.values is None:
            raise RuntimeError(f"HiGHS could not price a fixed fleet: {answer.status}")
        return answer.values

    def relaxed(self) -> tuple[Array, float]:
        """Return the fleet in fractions that the cuts lead to, and its price: no fleet is cheaper."""
        answer = self.engine.run(np.inf)
        if answer.values is None:
            raise RuntimeError(f"HiGHS could not solve the master: {answer.status}")
        return answer.values[self.nodes], answer.objective

    def price(self, values: Array, paths: Priced) -> float:
        """Return the objective of a point: the fleet's cost and the paths'."""
        return float(self._fleet_cost @ values) + self.form.offset + risk(paths.costs)

    def add(self, cuts: list[Cut]) -> None:
        """Bound the paths' costs."""
        slopes = np.stack([cut.slope.ravel() for cut in cuts])
        used = slopes != 0
        rows, places = np.nonzero(used)
        paths = self._path_cost[[cut.path for cut in cuts]]
        each = np.arange(len(cuts))
        data = np.concatenate([np.ones(len(cuts)), -slopes[used]])
        where = np.concatenate([each, rows]), np.concatenate([paths, self.nodes.ravel()[places]])
        matrix = csr_array((data, where), shape=(len(cuts), len(self.form.cost)))
        self.engine.add_rows(np.array([cut.level(self.problem) for cut in cuts]), matrix)


class Decomposition:
    """The relaxed problem solved by cuts; warm for other limits, other demand, and for whole fleets to be priced."""

    def __init__(self, problem: Problem, *, cuts: tuple[Cut, ...] = (), paths: Paths | None = None) -> None:
        self.problem = problem
        self.master = Master(problem)
        self.paths = paths or Paths(problem)
        self.paths.rebind(problem)
        self.bound = -np.inf
        self.best: Point | None = None
        self.cuts: list[Cut] = list(cuts)
        if cuts:
            self.master.add(self.cuts)

    def run(self, gap: float, until: float, say: Callable[[float, float], None]) -> None:
        """Bring the best point to within `gap` of the bound, or as near as the time allows."""
        if self.best is None:
            self.visit(self._first(until), until)
        while self.best is not None and perf_counter() < until:
            point = self.master.engine.run(until - perf_counter())
            if point.values is None:
                return
            self.bound = max(self.bound, point.objective)
            say(self.bound, self.best.objective)
            if self.best.objective - self.bound <= gap * abs(self.best.objective) + 1e-9:
                return
            self.visit(TOWARDS_MASTER * point.values + (1 - TOWARDS_MASTER) * self.best.values, until)

    def loosened(self, change: Callable[[Engine], None], gap: float, until: float) -> Point | None:
        """Solve again, warm, after a change that only widens the fleet's bounds; the caller takes it back.

        Cuts that are found on the way hold for the base as well and are kept; the base's best point and bound return.
        """
        base, bound = self.best, self.bound
        change(self.master.engine)
        self.bound = -np.inf
        try:
            self.run(gap, until, lambda _low, _high: None)
            return self.best
        finally:
            self.best, self.bound = base, bound

    def take(self, cuts: Sequence[Cut]) -> None:
        """Keep cuts."""
        self.cuts += cuts
        self.master.add(list(cuts))

    def visit(self, values: Array | None, until: float) -> Point | None:
        """Price the paths at a point, keep their cuts, and the point if it is the best; none when the time is over."""
        if values is None:
            return None
        point = self.look(values, until)
        if point is None:
            return None
        self.take(point.priced.cuts)
        if self.best is None or point.objective < self.best.objective:
            self.best = point
        return point

    def look(self, values: Array, until: float = np.inf) -> Point | None:
        """Price the paths at a point."""
        nodes = np.maximum(values[self.master.nodes], 0.0)
        priced = self.paths.price(nodes, until - perf_counter() if until < np.inf else np.inf)
        if priced is None:
            return None
        return Point(values=values, nodes=nodes, objective=self.master.price(values, priced), priced=priced)

    def _first(self, until: float) -> Array | None:
        """Return the plan for the mean demand and the mean supply."""
        mean = replace(
            self.problem,
            paths=self.problem.paths.mean(axis=0, keepdims=True),
            supply=self.problem.supply.mean(axis=0, keepdims=True),
        )
        whole = Whole(mean)
        answer = whole.engine.run(until - perf_counter())
        if answer.values is None:
            return None
        return self.master.complete(np.maximum(answer.values[whole.nodes], 0.0))
