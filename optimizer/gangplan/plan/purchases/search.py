"""Find what to buy: cuts between the purchases and the weeks, first relaxed, then whole, to a proven gap.

Every week of every path is one warm linear program, the plan's own for a path (`plan/paths.py`); its cut holds for
every number of nodes that stand. So a question with an offer banned begins with all cuts that were found before.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from gangplan.plan.problem import RISK_TAIL, Counts
from gangplan.plan.purchases.model import build
from gangplan.plan.purchases.problem import HorizonProblem
from gangplan.plan.solver import Array, Engine, Paths, Priced, compile_model, risk
from gangplan.progress import Progress, no_progress

TOWARDS_MASTER = 0.5
MOST_ROUNDS = 60
MIP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What purchases come to: money for them, each path's other cost (nodes taken, shortage, delay), the weeks.

    `bound_beyond` is money for them after the horizon, `bound_price` the share of it that counts.
    """

    buy: Counts
    standing: Counts
    spend: float
    bound_beyond: float
    bound_price: float
    path_costs: Array
    priced: Priced
    gap: float = 0.0

    @property
    def objective(self) -> float:
        """Money for purchases, what they bind, and the paths' cost with its risk."""
        return self.spend + self.bound_price + risk(self.path_costs)

    @property
    def expected(self) -> float:
        """What it counts in the mean of the paths."""
        return float(self.counted.mean())

    @property
    def counted(self) -> Array:
        """What each path counts: money, shortage and delay, and the share of what is bound beyond the horizon."""
        return self.spend + self.bound_price + self.path_costs

    @property
    def worst(self) -> float:
        """What the worst fifth of the paths counts in the mean."""
        return float(np.sort(self.counted)[-max(1, round(RISK_TAIL * len(self.counted))) :].mean())


class HorizonSearch:
    """One search, its weeks and its cuts kept warm for questions."""

    def __init__(self, problem: HorizonProblem) -> None:
        self.problem = problem
        self.paths = Paths(problem.weeks)
        self._model = build(problem)
        self._form = compile_model(self._model)
        model = self._model
        self._buy = self._form.columns_of([model.buy[o, m] for o in model.O for m in model.M])
        self._standing = self._form.columns_of([model.standing[p, m] for p in model.P for m in model.M])
        self._standing = self._standing.reshape(len(model.P), -1)
        self._week_cost = self._form.columns_of([model.week_cost[i] for i in model.I])
        seed = problem.weeks.settings.seed
        self._relaxed = Engine(self._form, relaxed=True, seed=seed)
        self._whole = Engine(self._form, relaxed=False, seed=seed, gap=problem.weeks.settings.mip_gap / 4)

    def run(self, progress: Progress = no_progress, banned: Sequence[int] = ()) -> Outcome:
        """Find the best purchases, those of banned offers being none."""
        columns = self._buy.reshape(len(self.problem.offers), -1)[list(banned)].ravel()
        zero = np.zeros(len(columns))
        for engine in (self._relaxed, self._whole):
            engine.bound_columns(columns, zero, zero)
        try:
            self._approach(progress)
            return self._prove(progress)
        finally:
            for engine in (self._relaxed, self._whole):
                engine.restore_columns(columns)

    def outcome(self, buy: Counts) -> Outcome:
        """Price purchases, and keep the cuts that this gives."""
        problem, standing = self.problem, self.problem.standing(buy)
        priced = self._visit(standing.astype(float))
        bought = [(o, m, float(count)) for (o, m), count in np.ndenumerate(buy) if count]
        beyond = sum(count * problem.bound_beyond(o, m) for o, m, count in bought)
        return Outcome(
            buy=buy,
            standing=standing,
            spend=sum(count * problem.money(o, m) for o, m, count in bought),
            bound_beyond=beyond,
            bound_price=problem.beyond * beyond,
            path_costs=self._by_path(priced),
            priced=priced,
        )

    def _by_path(self, priced: Priced) -> Array:
        """Sum each path's weeks, each as often as it happens."""
        return (self.problem.times * priced.costs).reshape(len(self.problem.paths), -1).sum(axis=1)

    def _approach(self, progress: Progress) -> None:
        """Bring the relaxed problem near its optimum, for the cuts on the way."""
        gap, best, inside = self.problem.weeks.settings.mip_gap / 4, np.inf, None
        for turn in range(MOST_ROUNDS):
            answer = self._relaxed.run(np.inf)
            assert answer.values is not None  # noqa: S101 - buying nothing is always possible
            if inside is not None and best - answer.objective <= gap * abs(best) + 1e-9:
                return
            point = answer.values if inside is None else (1 - TOWARDS_MASTER) * inside + TOWARDS_MASTER * answer.values
            price = self._price(point)
            if price < best:
                best, inside = price, point
            progress(0.1 + 0.5 * turn / MOST_ROUNDS, 1, f"relaxed: bound {answer.objective:,.0f}, found {best:,.0f}")

    def _price(self, point: Array) -> float:
        """Price a relaxed point and keep its cuts."""
        standing = self.problem.base.astype(float)
        standing[list(self._model.P)] = point[self._standing]
        priced = self._visit(standing)
        return float(self._form.cost[self._buy] @ point[self._buy]) + risk(self._by_path(priced))

    def _prove(self, progress: Progress) -> Outcome:
        """Solve the whole-number master and price what it buys, until its bound is near the best outcome."""
        gap, bound = self.problem.weeks.settings.mip_gap, -np.inf
        best: Outcome | None = None
        tried: set[bytes] = set()
        for turn in range(MOST_ROUNDS):
            answer = self._whole.run(MIP_SECONDS)
            bound = max(bound, answer.bound)
            if answer.values is None:
                break
            buy = np.rint(answer.values[self._buy]).astype(np.int64).reshape(len(self.problem.offers), -1)
            if buy.tobytes() in tried:
                break
            tried.add(buy.tobytes())
            found = self.outcome(buy)
            best = found if best is None or found.objective < best.objective else best
            progress(0.6 + 0.3 * turn / MOST_ROUNDS, 1, f"whole nodes: bound {bound:,.0f}, found {best.objective:,.0f}")
            if best.objective - bound <= gap * abs(best.objective) + 1e-6:
                break
        best = best or self.outcome(np.zeros((len(self.problem.offers), len(self.problem.months)), dtype=np.int64))
        slack = max(0.0, best.objective - bound)
        return replace(best, gap=slack / best.objective if best.objective > 1e-9 else 0.0)

    def _visit(self, standing: Array) -> Priced:
        """Price every week with the nodes that stand in its month, and bound the masters by its cuts."""
        problem = self.problem
        fleets = np.repeat(standing.T[problem.month_of][:, :, None], len(problem.weeks.periods), axis=2)
        priced = self.paths.price(fleets)
        if priced is None:
            raise RuntimeError("HiGHS could not price a week under given nodes")
        pools, width = list(self._model.P), len(self._form.cost)
        slopes = np.stack([cut.slope.sum(axis=1) for cut in priced.cuts])
        levels = np.array([cut.level(problem.weeks) for cut in priced.cuts])
        outside = [p for p in range(len(problem.fleet.pools)) if p not in pools]
        levels += (slopes[:, outside] * problem.base.T[problem.month_of][:, outside]).sum(axis=1)
        columns = np.hstack([self._week_cost[:, None], self._standing.T[problem.month_of]])
        data = np.hstack([np.ones((len(levels), 1)), -slopes[:, pools]])
        starts = np.arange(len(levels) + 1) * columns.shape[1]
        matrix = csr_array((data.ravel(), columns.ravel(), starts), shape=(len(levels), width))
        for engine in (self._relaxed, self._whole):
            engine.add_rows(levels, matrix)
        return priced
