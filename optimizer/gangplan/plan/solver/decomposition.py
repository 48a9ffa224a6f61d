"""The L-shaped method: a master decides the fleet, a linear program serves each path, cuts connect them.

After Van Slyke and Wets (1969), with one cut for each path and the CVaR exact in the master. The next fleet to try lies
between the master's and the best so far (in-out separation, Ben-Ameur and Neto 2007), which stops it from oscillating.
The first one is the plan for the mean demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gangplan.plan.model import build_master, compile_model
from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.extensive import ExtensiveForm, FleetProgram
from gangplan.plan.solver.highs import Engine, Work
from gangplan.plan.solver.recourse import Cut, RecoursePrograms, RecourseResult, risk

TOWARDS_MASTER = 0.35
"""Where the next fleet lies between the best so far (0) and the master's (1). Raised: longer steps that oscillate."""

NEAR = 0.02
"""Cuts are kept for later whose bound comes within this share of the plan's price of their path's cost."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A fleet, in whole nodes or in fractions: the values of the master's columns, its price, and its paths."""

    values: Array
    nodes: Array
    objective: float
    recourse: RecourseResult


class Decomposition:
    """The relaxed problem, solved by cuts.

    It has a warm start for other limits and other demand, and prices whole fleets. `bound` is proven: no fleet is
    cheaper. `best` is the cheapest candidate so far.
    """

    def __init__(
        self, problem: Problem, *, cuts: tuple[Cut, ...] = (), programs: RecoursePrograms | None = None
    ) -> None:
        self.problem = problem
        self.master = Master(problem)
        self.programs = programs or RecoursePrograms(problem)
        self.programs.rebind(problem)
        self.bound = -np.inf
        self.best: Candidate | None = None
        self.cuts: list[Cut] = []
        self.add_cuts(cuts)

    def run(self, gap: float, work: Work, report: Callable[[float, float], None] | None = None) -> None:
        """Bring the best candidate to within `gap` of the bound, or as near as the work allows.

        `report` is told the bound and the best price after each step.
        """
        if self.best is None:
            self.add_candidate(self._mean_fleet(work), work)
        while self.best is not None and not work.ended:
            result = self.master.engine.run(work)
            if result.values is None:
                return
            self.bound = max(self.bound, result.objective)
            if report is not None:
                report(self.bound, self.best.objective)
            if self.best.objective - self.bound <= gap * abs(self.best.objective) + 1e-9:
                return
            self.add_candidate(TOWARDS_MASTER * result.values + (1 - TOWARDS_MASTER) * self.best.values, work)

    def run_loosened(self, change: Callable[[Engine], None], gap: float, work: Work) -> Candidate | None:
        """Solve again after a change that only widens the fleet's bounds; the caller takes the change back.

        Cuts that are found on the way hold without the change too and are kept; `best` and `bound` stay as they were.
        """
        best, bound = self.best, self.bound
        change(self.master.engine)
        self.bound = -np.inf
        try:
            self.run(gap, work)
            return self.best
        finally:
            self.best, self.bound = best, bound

    def add_cuts(self, cuts: Sequence[Cut]) -> None:
        """Keep cuts, and bound the master by them."""
        if cuts:
            self.cuts += cuts
            self.master.add(cuts)

    def add_candidate(self, values: Array | None, work: Work | None = None) -> Candidate | None:
        """Evaluate a fleet, keep its cuts, and the fleet too if it is the best; None when the time is over."""
        candidate = None if values is None else self.evaluate(values, work)
        if candidate is None:
            return None
        self.add_cuts(candidate.recourse.cuts)
        if self.best is None or candidate.objective < self.best.objective:
            self.best = candidate
        return candidate

    def evaluate(self, values: Array, work: Work | None = None) -> Candidate | None:
        """Price a fleet, given by the values of the master's columns; None when the time is over."""
        nodes = np.maximum(values[self.master.nodes], 0.0)
        recourse = self.programs.price(nodes, work)
        if recourse is None:
            return None
        objective = self.master.price(values, recourse)
        return Candidate(values=values, nodes=nodes, objective=objective, recourse=recourse)

    def near_cuts(self) -> tuple[Cut, ...]:
        """Return the cuts that matter for fleets like the best one, and each path's last one in any case."""
        best = self.best
        if best is None:
            return ()
        last = {cut.path: cut for cut in self.cuts}
        slack = NEAR * max(1.0, abs(best.objective))

        def is_near(cut: Cut) -> bool:
            return cut.at(self.problem, best.nodes) >= best.recourse.costs[cut.path] - slack

        return tuple(cut for cut in self.cuts if cut is last[cut.path] or is_near(cut))

    def _mean_fleet(self, work: Work) -> Array | None:
        """Return the plan for the mean demand and the mean supply."""
        mean = replace(
            self.problem,
            paths=self.problem.paths.mean(axis=0, keepdims=True),
            supply=self.problem.supply.mean(axis=0, keepdims=True),
        )
        program = ExtensiveForm(Master(mean), RecoursePrograms(mean))
        result = program.engine.run(work)
        return None if result.values is None else self.master.complete(np.maximum(result.values[program.nodes], 0.0))


class Master(FleetProgram):
    """The first stage with the cuts on the paths' costs; a second engine prices a given fleet."""

    def __init__(self, problem: Problem) -> None:
        model = build_master(problem)
        super().__init__(problem, model, compile_model(model))
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
