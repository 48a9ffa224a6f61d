"""The search for what to buy: cuts between purchases and weeks, first relaxed, then in whole nodes, to a proven gap.

docs/plan-horizon.md has the model. Indices: o offer, p pool, m month, i week of a path and month, k path. A week's cut
holds for every number of nodes that stand, so solving again without an offer starts with all cuts found before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gangplan.plan.model import (
    Expression,
    Ints,
    Model,
    compile_model,
    constraint,
    define_risk,
    minimize,
    new_model,
    risk_cost,
    variable,
)
from gangplan.plan.problem import RISK_TAIL, Array, Counts
from gangplan.plan.purchases.problem import PurchaseProblem
from gangplan.plan.solver import Engine, RecoursePrograms, RecourseResult, risk
from gangplan.progress import Progress, no_progress

TOWARDS_MASTER = 0.5  # see plan/solver/decomposition.py
MOST_ROUNDS = 60  # of each phase; a bound of rounds, not of time, so that the result does not depend on the machine
MOST_NODES = 2_000  # of branch and bound, for each whole-number master


@dataclass(frozen=True, kw_only=True, eq=False)
class PurchaseResult:
    """What purchases cost.

    buy : nodes bought, shape (offers, months)
    standing : nodes that run for a term, shape (pools, months)
    spend : money for the purchases within the horizon
    bound_beyond, bound_price : money for them after the horizon, and the share of it that counts
    path_costs : nodes by the hour, shortage and delay, by path
    recourse : the weeks of all paths
    gap : proven, relative to the objective
    """

    buy: Counts
    standing: Counts
    spend: float
    bound_beyond: float
    bound_price: float
    path_costs: Array
    recourse: RecourseResult
    gap: float = 0.0

    @property
    def objective(self) -> float:
        """Money for purchases, the share of what they bind, and the paths' cost with its risk."""
        return self.spend + self.bound_price + risk(self.path_costs)

    @property
    def expected(self) -> float:
        """The mean of what the paths count."""
        return float(self.counted.mean())

    @property
    def counted(self) -> Array:
        """What each path counts: all money, shortage and delay, and the share of what is bound beyond the horizon."""
        return self.spend + self.bound_price + self.path_costs

    @property
    def worst(self) -> float:
        """The mean of what the worst fifth of the paths counts."""
        return float(np.sort(self.counted)[-max(1, round(RISK_TAIL * len(self.counted))) :].mean())


class PurchaseSearch:
    """One search; its cuts give a warm start to each solve that follows."""

    def __init__(self, problem: PurchaseProblem) -> None:
        self.problem = problem
        self.programs = RecoursePrograms(problem.weeks)
        self._model = model = build(problem)
        self._form = compile_model(model)
        self._buy = self._form.columns_of([model.buy[o, m] for o in model.O for m in model.M])
        standing = self._form.columns_of([model.standing[p, m] for p in model.P for m in model.M])
        self._standing: Ints = standing.reshape(len(model.P), -1)
        self._week_cost = self._form.columns_of([model.week_cost[i] for i in model.I])
        settings = problem.weeks.settings
        self._relaxed = Engine(self._form, relaxed=True, seed=settings.seed)
        self._whole = Engine(
            self._form, relaxed=False, seed=settings.seed, gap=settings.mip_gap / 4, most_nodes=MOST_NODES
        )

    def run(self, progress: Progress = no_progress, banned: Sequence[int] = ()) -> PurchaseResult:
        """Find the best purchases without the banned offers, given by their indices."""
        columns = self._buy.reshape(len(self.problem.offers), -1)[list(banned)].ravel()
        lower = self._form.lower[columns]  # zero
        self._bound_columns(columns, lower, lower)
        try:
            self._solve_relaxed(progress)
            return self._solve_whole(progress)
        finally:
            self._bound_columns(columns, lower, self._form.upper[columns])

    def _bound_columns(self, columns: Ints, lower: Array, upper: Array) -> None:
        for engine in (self._relaxed, self._whole):
            engine.bound_columns(columns, lower, upper)

    def price(self, buy: Counts) -> PurchaseResult:
        """Price purchases, and keep the cuts that this gives."""
        problem, standing = self.problem, self.problem.standing(buy)
        recourse = self._price_and_cut(standing.astype(float))
        bought = [(o, m, float(count)) for (o, m), count in np.ndenumerate(buy) if count]
        beyond = sum(count * problem.bound_beyond(o, m) for o, m, count in bought)
        return PurchaseResult(
            buy=buy,
            standing=standing,
            spend=sum(count * problem.money(o, m) for o, m, count in bought),
            bound_beyond=beyond,
            bound_price=problem.beyond * beyond,
            path_costs=self._by_path(recourse),
            recourse=recourse,
        )

    def _by_path(self, recourse: RecourseResult) -> Array:
        """Sum the cost of each path's weeks, each as often as it occurs."""
        return (self.problem.times * recourse.costs).reshape(len(self.problem.paths), -1).sum(axis=1)

    def _solve_relaxed(self, progress: Progress) -> None:
        """Bring the relaxed problem near its optimum, for the cuts on the way (in-out separation)."""
        gap, best, inside = self.problem.weeks.settings.mip_gap / 4, np.inf, None
        for turn in range(MOST_ROUNDS):
            result = self._relaxed.run()
            assert result.values is not None  # noqa: S101 - buying nothing is always possible
            if inside is not None and best - result.objective <= gap * abs(best) + 1e-9:
                return
            point = result.values if inside is None else (1 - TOWARDS_MASTER) * inside + TOWARDS_MASTER * result.values
            price = self._price(point)
            if price < best:
                best, inside = price, point
            progress(0.1 + 0.5 * turn / MOST_ROUNDS, 1, f"relaxed: bound {result.objective:,.0f}, found {best:,.0f}")

    def _price(self, point: Array) -> float:
        """Price a relaxed point, given by the master's columns, and keep its cuts."""
        standing = self.problem.base.astype(float)
        standing[list(self._model.P)] = point[self._standing]
        recourse = self._price_and_cut(standing)
        return float(self._form.cost[self._buy] @ point[self._buy]) + risk(self._by_path(recourse))

    def _solve_whole(self, progress: Progress) -> PurchaseResult:
        """Solve the whole-number master and price what it buys, until its bound is near the best result."""
        gap, bound = self.problem.weeks.settings.mip_gap, -np.inf
        best: PurchaseResult | None = None
        tried: set[bytes] = set()
        for turn in range(MOST_ROUNDS):
            result = self._whole.run()
            bound = max(bound, result.bound)
            if result.values is None:
                break
            buy = np.rint(result.values[self._buy]).astype(np.int64).reshape(len(self.problem.offers), -1)
            if buy.tobytes() in tried:
                break
            tried.add(buy.tobytes())
            priced = self.price(buy)
            best = priced if best is None or priced.objective < best.objective else best
            progress(0.6 + 0.3 * turn / MOST_ROUNDS, 1, f"whole nodes: bound {bound:,.0f}, found {best.objective:,.0f}")
            if best.objective - bound <= gap * abs(best.objective) + 1e-6:
                break
        best = best or self.price(np.zeros((len(self.problem.offers), len(self.problem.months)), dtype=np.int64))
        slack = max(0.0, best.objective - bound)
        return replace(best, gap=slack / best.objective if best.objective > 1e-9 else 0.0)

    def _price_and_cut(self, standing: Array) -> RecourseResult:
        """Price every week with the nodes that stand in its month, and bound both masters by its cuts."""
        problem = self.problem
        fleets = np.repeat(standing.T[problem.month_of][:, :, None], len(problem.weeks.periods), axis=2)
        recourse = self.programs.price(fleets)
        if recourse is None:
            raise RuntimeError("HiGHS could not price a week under given nodes")
        pools = list(self._model.P)
        slopes = np.stack([cut.slope.sum(axis=1) for cut in recourse.cuts])
        levels = np.array([cut.level(problem.weeks) for cut in recourse.cuts])
        outside = [p for p in range(len(problem.fleet.pools)) if p not in pools]
        levels += (slopes[:, outside] * problem.base.T[problem.month_of][:, outside]).sum(axis=1)
        columns = np.hstack([self._week_cost[:, None], self._standing.T[problem.month_of]])
        values = np.hstack([np.ones((len(levels), 1)), -slopes[:, pools]])
        rows = np.repeat(np.arange(len(levels)), columns.shape[1])
        for engine in (self._relaxed, self._whole):
            engine.add_rows(levels, rows, columns.ravel(), values.ravel())
        return recourse


def build(problem: PurchaseProblem) -> Model:
    """Build the model; nothing bounds the cost of a week from below yet."""
    model = new_model("gangplan-horizon")
    model.O = range(len(problem.offers))
    model.P = sorted(set(problem.pool_of))
    model.M = problem.months
    model.K = problem.paths
    model.I = range(len(problem.times))
    define_purchases(model, problem)
    define_standing(model, problem)
    define_risk(model)
    define_weeks(model, problem)
    spend = sum(problem.price(o, m) * model.buy[o, m] for o in model.O for m in model.M)
    model.total = minimize(spend + risk_cost(model))
    return model


def define_purchases(model: Model, problem: PurchaseProblem) -> None:
    """Nodes of an offer whose term begins in a month: whole numbers, and none before their lead time."""
    pools = problem.fleet.pools

    def bounds(_: Model, o: int, m: int) -> tuple[int, int]:
        return 0, pools[problem.pool_of[o]].max_nodes if m >= problem.first_month(o) else 0

    model.buy = variable(model.O, model.M, whole=True, bounds=bounds)


def define_standing(model: Model, problem: PurchaseProblem) -> None:
    """Nodes of a pool in a month: those that run anyway and those in their term, at most the pool's maximum."""

    def most(_: Model, p: int, m: int) -> tuple[int, int]:
        return 0, max(problem.fleet.pools[p].max_nodes, int(problem.base[p, m]))

    def balance(mod: Model, p: int, m: int) -> Expression:
        offers = [o for o in mod.O if problem.pool_of[o] == p]
        bought = sum(mod.buy[o, b] for o in offers for b in mod.M if m in problem.paid(o, b))
        return mod.standing[p, m] - bought == int(problem.base[p, m])

    model.standing = variable(model.P, model.M, bounds=most)
    model.stands = constraint(model.P, model.M, rule=balance)


def define_weeks(model: Model, problem: PurchaseProblem) -> None:
    """A path's cost is that of its weeks, each as often as it occurs in its month."""
    model.week_cost = variable(model.I)
    each = len(problem.times) // len(problem.paths)
    model.path_cost_is = constraint(
        model.K,
        rule=lambda mod, k: (
            mod.path_cost[k] - sum(float(problem.times[i]) * mod.week_cost[i] for i in range(k * each, (k + 1) * each))
            == 0
        ),
    )
