"""Find the fleet: one whole-number program when small; cuts, rounding and a proof when large; always a plan.

Small problems go to HiGHS as they are. Large ones are decomposed: the relaxed problem (solved at once if that is quick,
by cuts otherwise) gives a bound below the best plan's price, its fleet is rounded, and each rounded fleet is priced by
the warm paths. When the best of them is within the gap asked for, it is proven good and returned; otherwise HiGHS
branches from it with the time that is left. When there was no time for any of it, the last plan, or else the fleet that
runs now, is kept and priced, and the plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter

import numpy as np

from gangplan.plan.problem import Counts, Problem
from gangplan.plan.solver.decomposition import Decomposition, Point
from gangplan.plan.solver.highs import Array, Engine
from gangplan.plan.solver.paths import Cut
from gangplan.plan.solver.rounding import THRESHOLDS, afford, mend, round_at
from gangplan.plan.solver.whole_program import Whole
from gangplan.progress import Progress

WHOLE_COLUMNS = 1_000
"""Up to so many columns the problem is solved as one whole-number program."""

RELAXED_WHOLE_COLUMNS = 20_000
"""Up to so many columns the relaxed problem is solved at once; with more, cuts are the quicker."""

RELAXED_SHARE = (0.25, 0.05)
"""The relaxed problem's gap, as shares of the one asked for: first, and when rounding from there was not enough."""

BRANCHED_COLUMNS_PER_SECOND = 5_000
"""A problem with more columns for each second left is not given to branch and bound: it would not be built in time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The best fleet found, all that goes with it, what is proven, the gap asked for, and how it was found."""

    nodes: Counts
    point: Point
    bound: float
    asked: float
    method: str

    @property
    def objective(self) -> float:
        """Its price."""
        return self.point.objective

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
        return 0.0 if slack <= 1e-6 * max(1.0, abs(self.objective)) else slack / abs(self.objective)


class Search:
    """One search; its decomposition stays warm for what-ifs."""

    def __init__(self, problem: Problem, *, cuts: tuple[Cut, ...] = (), start: Array | None = None) -> None:
        self.problem = problem
        self._until = perf_counter() + problem.settings.time_limit_s
        self.decomposition = Decomposition(problem, cuts=cuts)
        self._start = start

    @cached_property
    def whole(self) -> Whole:
        """The relaxed problem as one linear program."""
        return Whole(self.problem)

    @property
    def seconds_left(self) -> float:
        """What is left of the time limit."""
        return max(0.0, self._until - perf_counter())

    @property
    def columns(self) -> int:
        """How many columns the whole problem has."""
        return len(self.decomposition.paths.form.cost) * len(self.problem.paths)

    def short_gpu_hours(self, point: Point) -> float:
        """Return the expected GPU-hours short at a point."""
        paths, problem = self.decomposition.paths, self.problem
        short = np.stack(point.priced.values)[:, paths.short].reshape(problem.demand.shape)
        return float(short.mean(axis=0).sum(axis=0) @ np.array(problem.periods.lengths))

    def run(self, progress: Progress) -> Found:
        """Find a plan, the way that its size asks for."""
        if self._start is not None and self.seconds_left > 0:
            self.decomposition.visit(self.decomposition.master.complete(self._start), self._until)
        return self._whole(progress) if self.columns <= WHOLE_COLUMNS else self._decomposed(progress)

    def _whole(self, progress: Progress) -> Found:
        """Solve the whole problem at once."""
        progress(0.2, 1, f"{self.columns:,} columns: solved as one whole-number program")
        found = self._branch(self._kept("one whole-number program"))
        progress(0.8, 1, f"plan {found.objective:,.0f}, bound {found.bound:,.0f}, gap {found.gap:.2%}")
        return found

    def _decomposed(self, progress: Progress) -> Found:
        """Solve the relaxed problem by cuts, round, prove; nearer, and pool by pool, when that was not enough."""
        progress(0.2, 1, f"{self.columns:,} columns: solved by cuts, one program for each demand path")
        best, asked = None, self.problem.settings.mip_gap
        if self.columns <= RELAXED_WHOLE_COLUMNS:
            self._relax()
        for step, share in enumerate(RELAXED_SHARE):
            said = 0.3 + 0.2 * step
            self.decomposition.run(share * asked, self._until, partial(_say, progress, said))
            best = self._round(best)
            if best is None:
                return self._kept("no search: the time limit was over first")
            progress(said + 0.1, 1, f"bound {best.bound:,.0f}, plan {best.objective:,.0f}, gap {best.gap:.2%}")
            if best.status == "optimal" or self.seconds_left <= 0:
                return best
        assert best is not None  # noqa: S101 - two rounds were made
        best = self._round_pools(best)
        if best.status == "optimal" or self.columns > BRANCHED_COLUMNS_PER_SECOND * self.seconds_left:
            return best
        progress(0.7, 1, f"branching for at most {self.seconds_left:.0f} s")
        return self._branch(best)

    def _relax(self) -> None:
        """Solve the relaxed problem at once, and start the cuts where it ends."""
        answer = self.whole.engine.run(self.seconds_left)
        if answer.values is not None:
            self.decomposition.take(self.whole.cuts(answer, self.decomposition.paths))
            nodes = np.maximum(answer.values[self.whole.nodes], 0.0)
            self.decomposition.visit(self.decomposition.master.complete(nodes), self._until)

    def _round(self, best: Found | None) -> Found | None:
        """Round the relaxed fleet at several thresholds and keep the cheapest."""
        base = self.decomposition.best
        if base is None:
            return None
        for nodes in round_at(base.nodes):
            if best is None or self.seconds_left > 0:
                best = self._better(best, afford(self.problem, mend(self.problem, nodes), base.nodes))
        return replace(best, bound=self.decomposition.bound) if best else None

    def _round_pools(self, best: Found) -> Found:
        """Try each pool at other thresholds while the others stay."""
        base = self.decomposition.best
        assert base is not None  # noqa: S101 - it was rounded before
        for p in range(len(self.problem.pools)):
            for row in round_at(base.nodes[p], THRESHOLDS):
                if self.seconds_left <= 0 or best.status == "optimal":
                    return best
                nodes = best.nodes.copy()
                nodes[p] = row
                best = self._better(best, mend(self.problem, nodes))
        return best

    def _better(self, best: Found | None, nodes: Counts) -> Found:
        """Price a fleet and return the cheaper."""
        if best is not None and np.array_equal(nodes, best.nodes):
            return best
        found = self._priced(nodes, "cuts between fleet and demand paths, then rounding")
        return found if best is None or found.objective < best.objective else best

    def _branch(self, best: Found) -> Found:
        """Let HiGHS branch on the whole problem; the best fleet so far stays if it finds none that is cheaper.

        It is not told of that fleet: a start saved no time, and given in part it once came back as the answer.
        """
        settings = self.problem.settings
        engine = Engine(self.whole.form, relaxed=False, seed=settings.seed, gap=settings.mip_gap)
        answer = engine.run(self.seconds_left)
        best = replace(best, bound=max(best.bound, answer.bound))
        if answer.values is None or answer.objective >= best.objective:
            return best
        nodes = np.rint(answer.values[self.whole.nodes]).astype(np.int64)
        return replace(self._priced(nodes, best.method), bound=best.bound)

    def _kept(self, method: str) -> Found:
        """Return the last plan's nodes, or else those that run now, brought within each pool's limits."""
        now = np.array(self.problem.now)[:, None]
        wanted = np.where(self.problem.previous >= 0, self.problem.previous, now)
        return self._priced(mend(self.problem, wanted), method)

    def _priced(self, nodes: Counts, method: str) -> Found:
        """Price a whole fleet and put it into a result."""
        point = self.price(nodes)
        bound, asked = self.decomposition.bound, self.problem.settings.mip_gap
        return Found(nodes=nodes, point=point, bound=bound, asked=asked, method=method)

    def price(self, nodes: Counts) -> Point:
        """Price a fleet: the best that can be served with it on each path."""
        point = self.decomposition.look(self.decomposition.master.complete(nodes))
        if point is None:
            raise RuntimeError("HiGHS could not price a fixed fleet")
        return point


def _say(progress: Progress, at: float, low: float, high: float) -> None:
    """Tell how far the relaxed problem is."""
    progress(at, 1, f"bound {low:,.0f}, relaxed {high:,.0f}, gap {1 - low / max(high, 1e-9):.2%}")
