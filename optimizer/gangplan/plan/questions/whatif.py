"""What would change: a solved plan asked again with another pool, budget or demand, side by side.

Cuts hold for every fleet and every demand as long as the paths' matrix and prices stay, so a question begins where the
plan ended: the master with its cuts, the paths' engines with their bases. What a question may change is what keeps that
so: a pool's limits, price and lead time, the budget, the carbon cap, the demand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import polars as pl
from pyomo.common.gc_manager import PauseGC  # pyright: ignore[reportMissingTypeStubs]

from gangplan.errors import InputError
from gangplan.plan.problem import Counts, Problem
from gangplan.plan.solver import (
    TOWARDS_MASTER,
    Array,
    Cut,
    Decomposition,
    Found,
    Point,
    Search,
    afford,
    mend,
    near_cuts,
    round_at,
)
from gangplan.types import Fleet

POOL_FIELDS = {"max": "max_nodes", "min": "min_nodes", "price": "price_per_node_hour", "lead": "lead_time_hours"}
SELECTORS = {"tenant": 0, "class": 1, "accelerator": 2}
THRESHOLDS = (0.5, 0.3, 0.5, 0.15)
"""Where a question's fleets are rounded up, one after the other: nearest first, as the first is nearly whole."""

MOST_ROUNDS = 30
"""So many fleets are tried for a question, even if there is more time."""

_AMOUNT = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(%?)")


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """A question: texts like `20`, `+5`, `-10%` for pools (by name and field), budget, carbon cap; demand factors."""

    pools: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    demand: Mapping[str, float] = field(default_factory=dict[str, float])
    budget: str = ""
    carbon: str = ""

    @classmethod
    def from_texts(cls, pools: list[str], demand: list[str], budget: str = "", carbon: str = "") -> WhatIf:
        """Read `a100-spot.max=20`, `tenant:vision=+30%` and their like."""
        factors: dict[str, float] = {}
        for text in demand:
            selector, _, amount = text.rpartition("=")
            factors[_selector(selector or "all", text)] = apply("demand", amount, 1.0)
        asked: dict[tuple[str, str], str] = {}
        for text in pools:
            where, _, amount = text.partition("=")
            name, _, part = where.rpartition(".")
            if part not in POOL_FIELDS or not name or not amount:
                known = ", ".join(POOL_FIELDS)
                raise InputError("pool", text, f"is not understood: give NAME.FIELD=AMOUNT with a field of {known}")
            asked[name, part] = amount
        if not (asked or factors or budget or carbon):
            raise InputError("what-if", "", "asks nothing: give --pool, --budget, --carbon-cap or --demand")
        return cls(pools=asked, demand=factors, budget=budget, carbon=carbon)

    def of(self, problem: Problem) -> Problem:
        """Return the problem as the question has it."""
        fleet = problem.fleet
        for (name, part), amount in self.pools.items():
            fleet = _changed_pool(fleet, name, part, amount)
        settings, policy = problem.settings, problem.policy
        if self.budget:
            settings = settings.model_copy(update={"budget": _limit("budget", self.budget, settings.budget)})
        if self.carbon:
            policy = replace(policy, carbon_cap_kg=_limit("carbon-cap", self.carbon, policy.carbon_cap_kg))
        factor = self._factors(problem)
        return replace(problem, fleet=fleet, settings=settings, policy=policy, paths=problem.paths * factor[:, None])

    def _factors(self, problem: Problem) -> Array:
        """Multiply each series' demand by what is said of it."""
        factor = np.ones(len(problem.series))
        for selector, times in self.demand.items():
            kind, _, name = selector.partition(":")
            hit = [s for s, series in enumerate(problem.series) if not kind or series[SELECTORS[kind]] == name]
            if not hit:
                known = ", ".join(sorted({series[SELECTORS[kind]] for series in problem.series}))
                raise InputError("demand", selector, f"is asked for by nobody in the forecast: use one of {known}")
            factor[hit] *= times
        return factor


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A question's plan: whole nodes, its price with the proven gap, money, expected GPU-hours short, emissions."""

    problem: Problem
    nodes: Counts
    objective: float
    bound: float
    cost: float
    short_gpu_hours: float
    short_by_workload: Array

    @property
    def gap(self) -> float:
        """How much dearer than the best plan it may be, relative to its own price."""
        return max(0.0, 1 - self.bound / self.objective) if self.objective > 1e-9 else 0.0

    def or_cheaper(self, other: Answer) -> Answer:
        """Return the cheaper of two answers to the same question, with all that is proven of either."""
        cheaper = self if self.objective < other.objective else other
        return replace(cheaper, bound=max(self.bound, other.bound))

    def by_pool(self) -> pl.DataFrame:
        """Return node-hours and money by pool."""
        names = [pool.name for pool in self.problem.pools]
        hours = (self.nodes @ np.array(self.problem.periods.lengths)).astype(float)
        return pl.DataFrame({"pool": names, "node_hours": hours, "cost": self.problem.money(self.nodes)})


class Solved:
    """A solved plan, kept warm for questions."""

    def __init__(self, decomposition: Decomposition, nodes: Counts, base: Point) -> None:
        self.problem = decomposition.problem
        self._paths, self._master, self._cuts = decomposition.paths, decomposition.master, tuple(decomposition.cuts)
        self._relaxed, bound = self._master.relaxed()
        self._master.complete(nodes)  # questions begin at its basis
        self.answer = self._told(self.problem, nodes, base, bound)

    @classmethod
    def from_search(cls, search: Search, found: Found) -> Solved:
        """Take over a search that has ended, with those of its cuts that are near."""
        done = search.decomposition
        kept = Decomposition(done.problem, cuts=tuple(near_cuts(done)), paths=done.paths)
        return cls(kept, found.nodes, found.point)

    @classmethod
    def from_nodes(cls, problem: Problem, nodes: Counts, cuts: tuple[Cut, ...]) -> Solved:
        """Warm up a plan that was solved before, from its nodes and its cuts."""
        decomposition = Decomposition(problem, cuts=cuts)
        point = decomposition.visit(decomposition.master.complete(nodes), np.inf)
        assert point is not None  # noqa: S101 - there is no time limit
        return cls(decomposition, nodes, point)

    def ask(self, question: WhatIf, seconds: float = 0.1) -> Answer:
        """Answer a question within about so long, and never without a whole fleet and a proven gap.

        Each fleet that is tried is whole already, so that it is an answer and a cut at once. The first is the plan's
        own, moved as the relaxed fleet moves, so that the two plans differ by the question and not by their rounding.
        """
        with PauseGC():  # the collector would look through the models of the questions before
            try:
                return self._asked(question.of(self.problem), perf_counter(), seconds)
            finally:
                self._paths.rebind(self.problem)

    def _asked(self, problem: Problem, began: float, seconds: float) -> Answer:
        """Try fleets until one is near enough or the time is over."""
        asked = Decomposition(problem, cuts=self._cuts, paths=self._paths)
        asked.master.begin_at(self._master)
        relaxed, _ = asked.master.relaxed()
        tried = self.answer.nodes + relaxed - self._relaxed
        best = self._whole(problem, asked, tried, THRESHOLDS[0])
        for turn in range(1, MOST_ROUNDS):
            spent = perf_counter() - began
            if best.gap <= problem.settings.mip_gap or spent * (turn + 1) / turn > seconds:
                break
            relaxed, _ = asked.master.relaxed()  # the last try's cuts are in it
            tried = TOWARDS_MASTER * relaxed + (1 - TOWARDS_MASTER) * tried
            found = self._whole(problem, asked, tried, THRESHOLDS[turn % len(THRESHOLDS)])
            best = found.or_cheaper(best)
        return best

    def _whole(self, problem: Problem, asked: Decomposition, exact: Array, threshold: float) -> Answer:
        """Round a fleet, price it, keep its cuts, and say what is proven with them."""
        (rounded,) = round_at(exact, [threshold])
        nodes = afford(problem, mend(problem, rounded), exact)
        point = asked.visit(asked.master.complete(nodes), np.inf)
        assert point is not None  # noqa: S101 - there is no time limit
        return self._told(problem, nodes, point, asked.master.relaxed()[1])

    def _told(self, problem: Problem, nodes: Counts, point: Point, bound: float) -> Answer:
        """Sum up a priced fleet."""
        short = np.stack(point.priced.values)[:, self._paths.short].reshape(problem.demand.shape).mean(axis=0)
        by_workload = short @ np.array(problem.periods.lengths)
        return Answer(
            problem=problem,
            nodes=nodes,
            objective=point.objective,
            bound=bound,
            cost=float(problem.money(nodes).sum()),
            short_gpu_hours=float(by_workload.sum()),
            short_by_workload=by_workload,
        )


def apply(name: str, text: str, value: float) -> float:
    """Return what `20`, `+5` or `-10%` makes of a value."""
    found = _AMOUNT.fullmatch(text)
    if not found:
        raise InputError(name, text, "is no amount: give one as 20, +5 or -10%")
    sign, number, per_cent = found.group(1), float(found.group(2)), found.group(3)
    amount = value * number / 100 if per_cent else number
    return value + (-amount if sign == "-" else amount) if sign else amount


def _selector(text: str, given: str) -> str:
    """Read whose demand is meant: `tenant:vision`, `class:latency`, `accelerator:h100`, or all."""
    kind, colon, name = text.partition(":")
    if text == "all":
        return ""
    if kind not in SELECTORS or not colon or not name:
        raise InputError("demand", given, f"is not understood: give {'|'.join(SELECTORS)}:NAME=AMOUNT or all=AMOUNT")
    return text


def _changed_pool(fleet: Fleet, name: str, part: str, amount: str) -> Fleet:
    """Change one field of one pool; its own checks refuse what cannot be."""
    pool, target = fleet.pool(name), POOL_FIELDS[part]
    value = apply(f"pools[{name}].{target}", amount, float(getattr(pool, target)))
    whole = value if part == "price" else round(value)
    return replace(fleet, pools=tuple(replace(one, **{target: whole}) if one is pool else one for one in fleet.pools))


def _limit(name: str, text: str, now: float | None) -> float:
    """Change a limit; a relative change needs one."""
    if now is None and (text[:1] in "+-" or text.endswith("%")):
        raise InputError(name, text, "is relative, and the plan has no such limit: give an amount")
    value = apply(name, text, now or 0.0)
    if not value > 0:
        raise InputError(name, text, "leaves nothing: give an amount greater than 0")
    return value


def side_by_side(before: Answer, after: Answer) -> pl.DataFrame:
    """Return what pools run and cost before and after, and who is short."""
    pools = before.by_pool().join(after.by_pool(), on="pool", how="full", coalesce=True, suffix="_then").fill_null(0.0)
    return pools.with_columns(
        node_hours_change=pl.col("node_hours_then") - pl.col("node_hours"),
        cost_change=pl.col("cost_then") - pl.col("cost"),
    ).sort(pl.col("cost_change").abs(), descending=True)
