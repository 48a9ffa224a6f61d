"""Find the fleet: relax, round, prove; branch only when rounding is not good enough; always come back with a plan.

The relaxation gives a bound below the best plan's price. Rounding all pools at one threshold keeps lead times, minima
and maxima, and each rounded fleet is priced by a warm re-solve. When the best of them is within the gap asked for, it
is proven good and returned; otherwise HiGHS branches from it with the time that is left. When even the relaxation has
not ended in time, the fleet that runs now is kept and priced, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gangplan.plan.handover import Answer, Array, Engine, StandardForm
from gangplan.plan.problem import Problem
from gangplan.progress import Progress

THRESHOLDS = (0.02, 0.15, 0.3, 0.5, 0.7)
"""A fraction of a node above this is rounded up."""

Nodes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The best fleet found, its price, what is proven, the gap asked for, and the values of all columns under it."""

    nodes: Nodes
    objective: float
    bound: float
    asked: float
    values: Array

    @property
    def status(self) -> str:
        """Whether it is proven as good as asked ("optimal"), or the time ended the search ("time_limit")."""
        slack = self.objective - max(self.bound, 0.0)
        near = slack <= self.asked * abs(self.objective) + 1e-6 * max(1.0, abs(self.objective))
        return "optimal" if near else "time_limit"

    @property
    def gap(self) -> float:
        """How much dearer than the best plan it may be, relative to its own price."""
        slack = self.objective - max(self.bound, 0.0)
        return 0.0 if slack <= 1e-6 else slack / abs(self.objective)


class Search:
    """One search: the relaxed engine stays warm for rounding and, later, for what-ifs."""

    def __init__(self, problem: Problem, model: Any, form: StandardForm) -> None:
        settings = problem.settings
        shape = (len(problem.pools), len(problem.periods))
        self.problem = problem
        self.form = form
        self.columns = form.columns_of([model.nodes[p, t] for p in model.P for t in model.T]).reshape(shape)
        self.relaxed = Engine(form, relaxed=True, seed=settings.seed)
        self.base: Answer | None = None
        self._until = perf_counter() + settings.time_limit_s
        self._short = form.columns_of([model.short[w, t, k] for k in model.K for w in model.W for t in model.T])

    @property
    def seconds_left(self) -> float:
        """What is left of the time limit."""
        return max(0.0, self._until - perf_counter())

    @property
    def what_if_seconds(self) -> float:
        """How long one what-if may take: they are warm, and a plan is not held up by its explanation."""
        return max(1.0, self.seconds_left)

    def short_gpu_hours(self, values: Array) -> float:
        """Return the expected GPU-hours short under these values."""
        scenarios, workloads, periods = self.problem.demand.shape
        short = values[self._short].reshape(scenarios, workloads, periods)
        return float((short.sum(axis=(0, 1)) @ np.array(self.problem.periods.lengths)) / scenarios)

    def run(self, progress: Progress) -> Found:
        """Relax, round, and branch if need be."""
        self.base = self.relaxed.run(self.seconds_left)
        if self.base.values is None:
            return self._priced(self._keep(), -np.inf)
        progress(0.4, 1, f"bound {self.base.objective:,.0f}")
        best = self._round(self.base)
        progress(0.7, 1, f"plan {best.objective:,.0f}, gap {best.gap:.2%}")
        return best if best.status == "optimal" else self._branch(best, progress)

    def price(self, nodes: Nodes) -> Answer:
        """Price a fixed fleet: the best that can be served with it in each scenario."""
        columns = self.columns.ravel()
        fixed = nodes.ravel().astype(float)
        self.relaxed.bound_columns(columns, fixed, fixed)
        answer = self.relaxed.run(np.inf)
        self.relaxed.restore_columns(columns)
        return answer

    def _round(self, base: Answer) -> Found:
        """Round the relaxed fleet at several thresholds and keep the cheapest."""
        assert base.values is not None  # noqa: S101 - the caller has looked
        exact = np.maximum(base.values[self.columns], 0.0)
        fleets = _distinct([self._hold_leads(nodes) for nodes in _round_at(exact, THRESHOLDS)])
        found = [self._priced(nodes, base.bound) for nodes in fleets]
        return self._round_pools(exact, min(found, key=lambda one: one.objective))

    def _round_pools(self, exact: Array, best: Found) -> Found:
        """Try each pool at other thresholds while the others stay."""
        for p in range(len(exact)):
            for row in _distinct(_round_at(exact[p], THRESHOLDS)):
                if self.seconds_left <= 0 or np.array_equal(row, best.nodes[p]):
                    continue
                nodes = best.nodes.copy()
                nodes[p] = row
                found = self._priced(self._hold_leads(nodes), best.bound)
                best = found if found.objective < best.objective else best
        return best

    def _branch(self, best: Found, progress: Progress) -> Found:
        """Let HiGHS branch from the best fleet so far."""
        settings = self.problem.settings
        if self.seconds_left <= 0:
            return best
        progress(0.7, 1, f"branching for at most {self.seconds_left:.0f} s")
        engine = Engine(self.form, relaxed=False, seed=settings.seed, gap=settings.mip_gap)
        engine.offer(best.values)
        answer = engine.run(self.seconds_left)
        bound = max(best.bound, answer.bound)
        if answer.values is not None and answer.objective < best.objective:
            nodes = np.rint(answer.values[self.columns]).astype(np.int64)
            best = self._priced(nodes, bound)
        return replace(best, bound=bound)

    def _hold_leads(self, nodes: Nodes) -> Nodes:
        """Take back what arithmetic at a threshold may have added before a pool's lead time is over."""
        for p, pool in enumerate(self.problem.pools):
            upto = self.problem.periods.first_after(pool.lead_time_hours)
            nodes[p, :upto] = np.minimum.accumulate(np.minimum(nodes[p, :upto], self.problem.now[p]))
        return nodes

    def _keep(self) -> Nodes:
        """Return the fleet that runs now, brought within each pool's limits as soon as may be."""
        most = np.array([[pool.max_nodes] for pool in self.problem.pools])
        now = np.array(self.problem.now)[:, None]
        return np.minimum(np.maximum(now, self.problem.floor), most)

    def _priced(self, nodes: Nodes, bound: float) -> Found:
        """Price a fleet and put it into a result."""
        answer = self.price(nodes)
        if answer.values is None:
            raise RuntimeError(f"HiGHS could not price a fixed fleet: {answer.status}")
        asked = self.problem.settings.mip_gap
        return Found(nodes=nodes, objective=answer.objective, bound=bound, asked=asked, values=answer.values)


def _round_at(exact: Array, thresholds: Sequence[float]) -> list[Nodes]:
    """Round up what exceeds a whole number by more than the threshold, once for each threshold."""
    return [np.floor(exact + 1 - threshold + 1e-9).astype(np.int64) for threshold in thresholds]


def _distinct(fleets: list[Nodes]) -> list[Nodes]:
    """Leave out repeated fleets."""
    return list({nodes.tobytes(): nodes for nodes in fleets}.values())
