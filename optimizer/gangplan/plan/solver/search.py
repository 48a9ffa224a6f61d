"""The search for the cheapest fleet: a bound that no fleet beats, fleets in whole nodes, and the proof by both.

The relaxed problem is solved first: at once if that is fast, by cuts otherwise. It gives the bound. Its fleet is
rounded, and each rounded fleet is priced on all paths. When the best of them is within the gap asked for, it is proven
and returned. Otherwise, unless the problem is very large, rows that only whole nodes keep raise the bound, the fleet is
rounded step by step, and what is left is for branch and bound.

The search ends when the work that it may do is done, which is counted and the same on every machine. When there was no
work for any of it, or a very slow machine left no time, the last plan, or else the fleet that runs now, is kept and
priced, and the plan says so. So there always is a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from gangplan.plan.problem import Array, Counts, Problem
from gangplan.plan.solver.decomposition import Candidate, Decomposition
from gangplan.plan.solver.extensive import ExtensiveForm
from gangplan.plan.solver.highs import Work
from gangplan.plan.solver.recourse import Cut
from gangplan.progress import Progress

AT_ONCE_COLUMNS = 20_000
"""Up to this many columns the relaxed problem is solved at once; with more, cuts are faster."""

RELAXED_SHARE = (0.25, 0.05)
"""The relaxed problem's gap, as shares of the one asked for: first, and when rounding from there was not enough."""

THRESHOLDS = (0.3, 0.02, 0.15, 0.5, 0.7)
"""A fraction of a node above the threshold is rounded up; each is tried, in this order."""

FAR = 0.1
"""When the first rounded fleet is farther from the bound and whole nodes follow, the others are not priced."""

DIVES = ((0.5, False), (0.5, True), (0.3, True))
"""The same for rounding step by step, and whether rows of whole nodes are added after each step."""

COLUMNS_PER_UNIT = 1_000
"""A problem with more columns for each unit of work left has no rows of whole nodes and is not branched on."""

COLUMN_NODES_PER_UNIT = 20_000
"""For each unit of work left, branch and bound may try this many nodes of a problem with one column."""

METHOD = "the relaxed problem, then whole nodes"


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The best fleet of a search: whole nodes, its price and its paths, the proven bound, the gap asked for, how.

    `nodes` has shape (pools, periods). `ended` is what cut the search short: "work_limit" or "time_limit".
    """

    nodes: Counts
    candidate: Candidate
    bound: float
    asked_gap: float
    method: str
    ended: str = ""

    @property
    def objective(self) -> float:
        """Its price: money, and shortage, delay and risk at their prices."""
        return self.candidate.objective

    @property
    def status(self) -> str:
        """Whether it is "optimal", proven within the gap asked for; else what cut the search short."""
        slack = self.objective - max(self.bound, 0.0)
        near = slack <= self.asked_gap * abs(self.objective) + 1e-6 * max(1.0, abs(self.objective))
        return "optimal" if near else self.ended or "work_limit"

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
        self.work = Work(problem.settings.work_limit, problem.settings.time_limit_s)
        self.decomposition = Decomposition(problem, cuts=cuts)
        self._start = start

    @cached_property
    def extensive(self) -> ExtensiveForm:
        """The relaxed problem as one linear program."""
        return ExtensiveForm(self.decomposition.master, self.decomposition.programs)

    @property
    def columns(self) -> int:
        """How many columns the second stage of all paths has."""
        return len(self.decomposition.programs.form.cost) * len(self.problem.paths)

    def short_gpu_hours(self, candidate: Candidate) -> float:
        """Return the expected GPU-hours short with a fleet."""
        short = self.decomposition.programs.short_gpus(candidate.recourse)
        return float(short.mean(axis=0).sum(axis=0) @ np.array(self.problem.periods.lengths))

    def run(self, progress: Progress) -> SearchResult:
        """Find a plan and prove it, as far as the work goes that it may do."""
        if self._start is not None and not self.work.ended:
            self.decomposition.add_candidate(self.decomposition.master.complete(self._start), self.work)
        best = self._relax_and_round(progress)
        if best is None:
            best = self._previous_fleet("no search: the limit was reached first")
        elif best.status != "optimal" and self._may_be_whole:
            best = self._branch(self._dive(best, progress), progress)
        return replace(best, ended=self.work.ended)

    @property
    def _may_be_whole(self) -> bool:
        """Whether there is enough work left to treat all paths in one program with whole nodes."""
        return not self.work.ended and self.columns <= COLUMNS_PER_UNIT * self.work.units

    def _relax_and_round(self, progress: Progress) -> SearchResult | None:
        """Solve the relaxed problem and round; if that is not enough, more exactly."""
        at_once = self.columns <= AT_ONCE_COLUMNS
        progress(0.2, 1, f"{self.columns:,} columns: solved {'at once' if at_once else 'by cuts, path by path'}")
        if at_once:
            self._relax()
        best, gap = None, self.problem.settings.mip_gap
        for step, share in enumerate(RELAXED_SHARE):
            done = 0.3 + 0.1 * step
            self.decomposition.run(share * gap, self.work, partial(_report, progress, done))
            best = self._round(best)
            if best is None or best.status == "optimal" or self.work.ended or self._may_be_whole:
                break
        if best is not None:
            progress(0.4, 1, f"bound {best.bound:,.0f}, plan {best.objective:,.0f}, gap {best.gap:.2%}")
        return best

    def _relax(self) -> None:
        """Solve the relaxed problem at once, so that the cuts begin at its optimum."""
        result = self.extensive.engine.run(self.work)
        if result.values is not None:
            self.decomposition.add_cuts(self.extensive.cuts(result))
            nodes = np.maximum(result.values[self.extensive.nodes], 0.0)
            self.decomposition.add_candidate(self.decomposition.master.complete(nodes), self.work)

    def _round(self, best: SearchResult | None) -> SearchResult | None:
        """Round the relaxed fleet at several thresholds and keep the cheapest."""
        relaxed = self.decomposition.best
        if relaxed is None:
            return None
        for nodes in round_at(relaxed.nodes):
            if best is None or not self.work.ended:
                best = self._cheaper(best, fit_budget(self.problem, repair(self.problem, nodes), relaxed.nodes))
            if self._may_be_whole and best.gap > FAR:
                break
        return replace(best, bound=self.decomposition.bound) if best else None

    def _dive(self, best: SearchResult, progress: Progress) -> SearchResult:
        """Raise the bound by rows of whole nodes, and round step by step from there."""
        relaxed = self.extensive.tighten(self.work)
        if relaxed.values is None:
            return best
        best = replace(best, bound=max(best.bound, relaxed.objective))
        for threshold, again in DIVES:
            if best.status == "optimal" or self.work.ended:
                break
            nodes = self.extensive.dive(relaxed.values, threshold, again, self.work)
            exact = relaxed.values[self.extensive.nodes]
            best = self._cheaper(best, fit_budget(self.problem, repair(self.problem, nodes), exact))
        progress(0.6, 1, f"whole nodes: bound {best.bound:,.0f}, plan {best.objective:,.0f}, gap {best.gap:.2%}")
        return best

    def _branch(self, best: SearchResult, progress: Progress) -> SearchResult:
        """Let HiGHS branch on the whole problem; the best fleet so far stays if none is cheaper."""
        nodes = int(COLUMN_NODES_PER_UNIT * self.work.units / max(1, self.columns))
        if best.status == "optimal" or not self._may_be_whole:
            return best
        progress(0.7, 1, f"branching, at most {nodes:,} nodes")
        result = self.extensive.branch(best.nodes, nodes, self.work)
        best = replace(best, bound=max(best.bound, result.bound))
        if result.values is None or result.objective >= best.objective:
            return best
        found = np.rint(result.values[self.extensive.nodes]).astype(np.int64)
        return self._cheaper(best, found)

    def _cheaper(self, best: SearchResult | None, nodes: Counts) -> SearchResult:
        """Price a fleet and return the cheaper of the two, with the bound of the first."""
        if best is not None and np.array_equal(nodes, best.nodes):
            return best
        other = self._priced(nodes, METHOD)
        if best is None:
            return other
        return replace(other, bound=best.bound) if other.objective < best.objective else best

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
