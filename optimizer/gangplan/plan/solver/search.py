"""The search for the cheapest fleet: one whole-number program when small; cuts, rounding and a proof when large.

Small problems go to branch and bound as they are. Large ones are decomposed: the relaxed problem (solved at once if
that is fast, by cuts otherwise) gives a bound below the best plan's price, its fleet is rounded, and each rounded fleet
is priced on all paths. When the best of them is within the gap asked for, it is proven and returned; otherwise branch
and bound uses the time that is left. When there was no time for any of it, the last plan, or else the fleet that runs
now, is kept and priced, and the plan says so. So there always is a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter

import numpy as np

from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.decomposition import Candidate, Decomposition, ExtensiveForm
from gangplan.plan.solver.highs import Engine
from gangplan.plan.solver.recourse import Cut
from gangplan.progress import Progress

WHOLE_COLUMNS = 1_000
"""Up to this many columns the problem is solved as one whole-number program."""

RELAXED_WHOLE_COLUMNS = 20_000
"""Up to this many columns the relaxed problem is solved at once; with more, cuts are faster."""

RELAXED_SHARE = (0.25, 0.05)
"""The relaxed problem's gap, as shares of the one asked for: first, and when rounding from there was not enough."""

THRESHOLDS = (0.02, 0.15, 0.3, 0.5, 0.7)
"""A fraction of a node above the threshold is rounded up; each is tried."""

BRANCHED_COLUMNS_PER_SECOND = 5_000
"""A problem with more columns for each second left is not given to branch and bound: building it takes too long."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The best fleet of a search: whole nodes, its price and its paths, the proven bound, the gap asked for, how.

    `nodes` has shape (pools, periods).
    """

    nodes: Counts
    candidate: Candidate
    bound: float
    asked_gap: float
    method: str

    @property
    def objective(self) -> float:
        """Its price: money, and shortage, delay and risk at their prices."""
        return self.candidate.objective

    @property
    def status(self) -> str:
        """Whether it is "optimal": proven within the gap asked for, or "time_limit": the time was over first."""
        slack = self.objective - max(self.bound, 0.0)
        near = slack <= self.asked_gap * abs(self.objective) + 1e-6 * max(1.0, abs(self.objective))
        return "optimal" if near else "time_limit"

    @property
    def gap(self) -> float:
        """How much cheaper the best plan may be, relative to the price of this one."""
        slack = self.objective - max(self.bound, 0.0)
        return 0.0 if slack <= 1e-6 * max(1.0, abs(self.objective)) else slack / abs(self.objective)


class Search:
    """One search; its decomposition has a warm start for questions that follow.

    `cuts` and `start`, a fleet of shape (pools, periods), come from an earlier plan.
    """

    def __init__(self, problem: Problem, *, cuts: tuple[Cut, ...] = (), start: Array | None = None) -> None:
        self.problem = problem
        self._until = perf_counter() + problem.settings.time_limit_s
        self.decomposition = Decomposition(problem, cuts=cuts)
        self._start = start

    @cached_property
    def extensive(self) -> ExtensiveForm:
        """The relaxed problem as one linear program."""
        return ExtensiveForm(self.problem)

    @property
    def seconds_left(self) -> float:
        """What is left of the time limit."""
        return max(0.0, self._until - perf_counter())

    @property
    def columns(self) -> int:
        """How many columns the second stage of all paths has."""
        return len(self.decomposition.programs.form.cost) * len(self.problem.paths)

    def short_gpu_hours(self, candidate: Candidate) -> float:
        """Return the expected GPU-hours short with a fleet."""
        short = self.decomposition.programs.short_gpus(candidate.recourse)
        return float(short.mean(axis=0).sum(axis=0) @ np.array(self.problem.periods.lengths))

    def run(self, progress: Progress) -> SearchResult:
        """Find a plan, in the way that its size asks for."""
        if self._start is not None and self.seconds_left > 0:
            self.decomposition.add_candidate(self.decomposition.master.complete(self._start), self._until)
        return self._solve_whole(progress) if self.columns <= WHOLE_COLUMNS else self._solve_by_cuts(progress)

    def _solve_whole(self, progress: Progress) -> SearchResult:
        """Solve the whole problem at once."""
        progress(0.2, 1, f"{self.columns:,} columns: solved as one whole-number program")
        best = self._branch(self._previous_fleet("one whole-number program"))
        progress(0.8, 1, f"plan {best.objective:,.0f}, bound {best.bound:,.0f}, gap {best.gap:.2%}")
        return best

    def _solve_by_cuts(self, progress: Progress) -> SearchResult:
        """Solve the relaxed problem by cuts, round, prove; if that is not enough, more exactly, then pool by pool."""
        progress(0.2, 1, f"{self.columns:,} columns: solved by cuts, one program for each demand path")
        best, asked_gap = None, self.problem.settings.mip_gap
        if self.columns <= RELAXED_WHOLE_COLUMNS:
            self._relax()
        for step, share in enumerate(RELAXED_SHARE):
            done = 0.3 + 0.2 * step
            self.decomposition.run(share * asked_gap, self._until, partial(_report, progress, done))
            best = self._round(best)
            if best is None:
                return self._previous_fleet("no search: the time limit was over first")
            progress(done + 0.1, 1, f"bound {best.bound:,.0f}, plan {best.objective:,.0f}, gap {best.gap:.2%}")
            if best.status == "optimal" or self.seconds_left <= 0:
                return best
        assert best is not None  # noqa: S101 - it was rounded twice
        best = self._round_pools(best)
        if best.status == "optimal" or self.columns > BRANCHED_COLUMNS_PER_SECOND * self.seconds_left:
            return best
        progress(0.7, 1, f"branching for at most {self.seconds_left:.0f} s")
        return self._branch(best)

    def _relax(self) -> None:
        """Solve the relaxed problem at once, so that the cuts begin at its optimum."""
        result = self.extensive.engine.run(self.seconds_left)
        if result.values is not None:
            self.decomposition.add_cuts(self.extensive.cuts(result, self.decomposition.programs))
            nodes = np.maximum(result.values[self.extensive.nodes], 0.0)
            self.decomposition.add_candidate(self.decomposition.master.complete(nodes), self._until)

    def _round(self, best: SearchResult | None) -> SearchResult | None:
        """Round the relaxed fleet at several thresholds and keep the cheapest."""
        relaxed = self.decomposition.best
        if relaxed is None:
            return None
        for nodes in round_at(relaxed.nodes):
            if best is None or self.seconds_left > 0:
                best = self._cheaper(best, fit_budget(self.problem, repair(self.problem, nodes), relaxed.nodes))
        return replace(best, bound=self.decomposition.bound) if best else None

    def _round_pools(self, best: SearchResult) -> SearchResult:
        """Round one pool after the other at other thresholds while the others stay."""
        relaxed = self.decomposition.best
        assert relaxed is not None  # noqa: S101 - it was rounded before
        for p in range(len(self.problem.pools)):
            for row in round_at(relaxed.nodes[p], THRESHOLDS):
                if self.seconds_left <= 0 or best.status == "optimal":
                    return best
                nodes = best.nodes.copy()
                nodes[p] = row
                best = self._cheaper(best, repair(self.problem, nodes))
        return best

    def _cheaper(self, best: SearchResult | None, nodes: Counts) -> SearchResult:
        """Price a fleet and return the cheaper of the two."""
        if best is not None and np.array_equal(nodes, best.nodes):
            return best
        other = self._priced(nodes, "cuts between fleet and demand paths, then rounding")
        return other if best is None or other.objective < best.objective else best

    def _branch(self, best: SearchResult) -> SearchResult:
        """Let HiGHS branch on the whole problem; the best fleet so far stays if none is cheaper.

        HiGHS is not told of that fleet: a start saved no time, and given in part it once came back as the answer.
        """
        settings, program = self.problem.settings, self.extensive
        result = Engine(program.form, relaxed=False, seed=settings.seed, gap=settings.mip_gap).run(self.seconds_left)
        best = replace(best, bound=max(best.bound, result.bound))
        if result.values is None or result.objective >= best.objective:
            return best
        nodes = np.rint(result.values[program.nodes]).astype(np.int64)
        return replace(self._priced(nodes, best.method), bound=best.bound)

    def _previous_fleet(self, method: str) -> SearchResult:
        """Return the last plan's nodes, or else those that run now, brought within each pool's limits."""
        now = np.array(self.problem.now)[:, None]
        wanted = np.where(self.problem.previous >= 0, self.problem.previous, now)
        return self._priced(repair(self.problem, wanted), method)

    def _priced(self, nodes: Counts, method: str) -> SearchResult:
        """Price a whole fleet as a result."""
        return SearchResult(
            nodes=nodes,
            candidate=self.price(nodes),
            bound=self.decomposition.bound,
            asked_gap=self.problem.settings.mip_gap,
            method=method,
        )

    def price(self, nodes: Counts) -> Candidate:
        """Price a fleet: the best that can be served with it on each path."""
        candidate = self.decomposition.evaluate(self.decomposition.master.complete(nodes))
        if candidate is None:
            raise RuntimeError("HiGHS could not price a fixed fleet")
        return candidate


def _report(progress: Progress, done: float, bound: float, price: float) -> None:
    """Say how near the relaxed problem is to its optimum."""
    progress(done, 1, f"bound {bound:,.0f}, relaxed {price:,.0f}, gap {1 - bound / max(price, 1e-9):.2%}")


def round_at(exact: Array, thresholds: Sequence[float] = THRESHOLDS) -> list[Counts]:
    """Round up what exceeds a whole number by more than a threshold, for each threshold; return different fleets."""
    fleets = [np.floor(exact + 1 - threshold + 1e-9).astype(np.int64) for threshold in thresholds]
    return list({nodes.tobytes(): nodes for nodes in fleets}.values())


def repair(problem: Problem, nodes: Counts) -> Counts:
    """Make a fleet keep limits, lead times, minimum times and reservations, forwards in time."""
    nodes = np.maximum(nodes, problem.floor)
    for p, pool in enumerate(problem.pools):
        nodes[p] = np.minimum(nodes[p], pool.max_nodes)
        upto = problem.periods.first_after(pool.lead_time_hours)
        nodes[p, :upto] = np.minimum.accumulate(np.minimum(nodes[p, :upto], problem.now[p]))
        if pool.minimum_up_hours:
            nodes[p] = keep_minimum_up(nodes[p], problem.now[p], problem.periods.starts, pool.minimum_up_hours)
    return nodes


def keep_minimum_up(nodes: Counts, now: int, starts: Counts, hours: int) -> Counts:
    """Keep at least as many nodes as were started within the last `hours`."""
    kept, started = nodes.copy(), np.zeros_like(nodes)
    for t in range(len(nodes)):
        before = kept[t - 1] if t else now
        recent = int(started[:t][starts[:t] + hours > starts[t]].sum())
        kept[t] = max(kept[t], recent)
        started[t] = max(0, kept[t] - before)
    return kept


def fit_budget(problem: Problem, nodes: Counts, exact: Array) -> Counts:
    """Remove nodes until the budget holds, first those that were rounded up most; `exact` is the fleet in fractions."""
    budget = problem.budget
    if budget is None or float(problem.money(nodes).sum()) <= budget:
        return nodes
    nodes = nodes.copy()
    order: list[int] = np.argsort((exact - nodes).ravel(), kind="stable").tolist()
    floor, lengths = problem.floor, problem.periods.lengths
    over = float(problem.money(nodes).sum()) - budget
    for p, t in (divmod(place, nodes.shape[1]) for place in order):
        if over <= 0:
            break
        if nodes[p, t] > floor[p, t] and nodes[p, t] > exact[p, t]:
            nodes[p, t] -= 1
            over -= float(problem.prices[p, t]) * lengths[t] if p not in problem.committed else 0.0
    return repair(problem, nodes)
