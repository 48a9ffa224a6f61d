"""The L-shaped method: a master decides the fleet, a linear program serves each path, cuts connect them.

After Van Slyke and Wets (1969), with one cut for each path and the CVaR exact in the master. The next fleet to try lies
between the master's and the best so far (in-out separation, Ben-Ameur and Neto 2007), which stops it from oscillating.
The first one is the plan for the mean demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from gangplan.plan.problem import Array, Problem
from gangplan.plan.solver.fleet_programs import ExtensiveForm, Master
from gangplan.plan.solver.highs import Engine
from gangplan.plan.solver.recourse import Cut, RecoursePrograms, RecourseResult

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
        if cuts:
            self.add_cuts(cuts)

    def run(self, gap: float, until: float, report: Callable[[float, float], None] | None = None) -> None:
        """Bring the best candidate to within `gap` of the bound, or as near as the time allows.

        `report` is told the bound and the best price after each step.
        """
        if self.best is None:
            self.add_candidate(self._mean_fleet(until), until)
        while self.best is not None and perf_counter() < until:
            result = self.master.engine.run(until - perf_counter())
            if result.values is None:
                return
            self.bound = max(self.bound, result.objective)
            if report is not None:
                report(self.bound, self.best.objective)
            if self.best.objective - self.bound <= gap * abs(self.best.objective) + 1e-9:
                return
            self.add_candidate(TOWARDS_MASTER * result.values + (1 - TOWARDS_MASTER) * self.best.values, until)

    def run_loosened(self, change: Callable[[Engine], None], gap: float, until: float) -> Candidate | None:
        """Solve again after a change that only widens the fleet's bounds; the caller takes the change back.

        Cuts that are found on the way hold without the change too and are kept; `best` and `bound` stay as they were.
        """
        best, bound = self.best, self.bound
        change(self.master.engine)
        self.bound = -np.inf
        try:
            self.run(gap, until)
            return self.best
        finally:
            self.best, self.bound = best, bound

    def add_cuts(self, cuts: Sequence[Cut]) -> None:
        """Keep cuts, and bound the master by them."""
        self.cuts += cuts
        self.master.add(cuts)

    def add_candidate(self, values: Array | None, until: float) -> Candidate | None:
        """Evaluate a fleet, keep its cuts, and the fleet too if it is the best; None when the time is over."""
        candidate = None if values is None else self.evaluate(values, until)
        if candidate is None:
            return None
        self.add_cuts(candidate.recourse.cuts)
        if self.best is None or candidate.objective < self.best.objective:
            self.best = candidate
        return candidate

    def evaluate(self, values: Array, until: float = np.inf) -> Candidate | None:
        """Price a fleet, given by the values of the master's columns; None when the time is over."""
        nodes = np.maximum(values[self.master.nodes], 0.0)
        recourse = self.programs.price(nodes, until - perf_counter() if until < np.inf else np.inf)
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

    def _mean_fleet(self, until: float) -> Array | None:
        """Return the plan for the mean demand and the mean supply."""
        mean = replace(
            self.problem,
            paths=self.problem.paths.mean(axis=0, keepdims=True),
            supply=self.problem.supply.mean(axis=0, keepdims=True),
        )
        program = ExtensiveForm(mean)
        result = program.engine.run(until - perf_counter())
        return None if result.values is None else self.master.complete(np.maximum(result.values[program.nodes], 0.0))
