"""What-if questions: a plan solved again with another pool, budget or demand, side by side.

Cuts hold for every fleet and every demand while the paths' matrix and prices stay the same. So a question has a warm
start from the plan: the master with its cuts, the paths' programs with their bases. A question may change only what
keeps that so: a pool's limits, price and lead time, the budget, the carbon cap, the demand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.plan.model import PauseGC
from gangplan.plan.problem import Array, Counts, Problem, nodes_of
from gangplan.plan.solver import (
    TOWARDS_MASTER,
    Candidate,
    Cut,
    Decomposition,
    Work,
    cuts_from_bytes,
    fit_budget,
    repair,
    round_at,
)
from gangplan.types import Fleet, Plan

POOL_FIELDS = {"max": "max_nodes", "min": "min_nodes", "price": "price_per_node_hour", "lead": "lead_time_hours"}
SELECTORS = {"tenant": 0, "class": 1, "accelerator": 2}
THRESHOLDS = (0.5, 0.3, 0.5, 0.15)
"""The thresholds for rounding up a question's fleets, in turn; the first fleet is nearly whole already."""

MOST_ROUNDS = 30
"""At most this many fleets are tried for a question, even if there is more work to spend."""

_AMOUNT = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(%?)")


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """A question: factors for demand, and amounts such as `20`, `+5` or `-10%` for pools, budget and carbon cap.

    `pools` has them by name and field; `demand` has its factors by selector, such as `tenant:vision`, or "" for all.
    """

    pools: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    demand: Mapping[str, float] = field(default_factory=dict[str, float])
    budget: str = ""
    carbon: str = ""

    @classmethod
    def from_texts(cls, pools: list[str], demand: list[str], budget: str = "", carbon: str = "") -> WhatIf:
        """Read texts such as `a100-spot.max=20` and `tenant:vision=+30%`."""
        factors: dict[str, float] = {}
        for text in demand:
            selector, _, amount = text.rpartition("=")
            factors[_selector(selector or "all", text)] = apply_amount("demand", amount, 1.0)
        amounts: dict[tuple[str, str], str] = {}
        for text in pools:
            where, _, amount = text.partition("=")
            name, _, part = where.rpartition(".")
            if part not in POOL_FIELDS or not name or not amount:
                known = ", ".join(POOL_FIELDS)
                raise InputError("pool", text, f"is not understood: give NAME.FIELD=AMOUNT with a field of {known}")
            amounts[name, part] = amount
        if not (amounts or factors or budget or carbon):
            raise InputError("what-if", "", "asks nothing: give --pool, --budget, --carbon-cap or --demand")
        return cls(pools=amounts, demand=factors, budget=budget, carbon=carbon)

    def of(self, problem: Problem) -> Problem:
        """Return the problem with what the question changes."""
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
        """Return the factor of each series' demand."""
        factor = np.ones(len(problem.series))
        for selector, times in self.demand.items():
            kind, _, name = selector.partition(":")
            selected = [s for s, series in enumerate(problem.series) if not kind or series[SELECTORS[kind]] == name]
            if not selected:
                known = sorted({series[SELECTORS[kind]] for series in problem.series})
                raise InputError.unknown("demand", selector, "asked for by nobody in the forecast", known)
            factor[selected] *= times
        return factor


@dataclass(frozen=True, kw_only=True, eq=False)
class WhatIfResult:
    """The plan that answers a question: whole nodes, its price with the proven bound, money, expected GPU-hours short.

    `nodes` has shape (pools, periods); `short_by_workload` are expected GPU-hours.
    """

    problem: Problem
    nodes: Counts
    objective: float
    bound: float
    cost: float
    short_by_workload: Array

    @property
    def short_gpu_hours(self) -> float:
        """Expected GPU-hours short of all workloads."""
        return float(self.short_by_workload.sum())

    @property
    def gap(self) -> float:
        """How much cheaper the best plan may be, relative to the price of this one."""
        return max(0.0, 1 - self.bound / self.objective) if self.objective > 1e-9 else 0.0

    def by_pool(self) -> pl.DataFrame:
        """Return node-hours and money by pool."""
        names = [pool.name for pool in self.problem.pools]
        hours = (self.nodes @ np.array(self.problem.periods.lengths)).astype(float)
        return pl.DataFrame({"pool": names, "node_hours": hours, "cost": self.problem.money(self.nodes)})


class WhatIfSolver:
    """A plan that was solved, ready for questions: its cuts and bases give them a warm start."""

    def __init__(self, problem: Problem, nodes: Counts, cuts: tuple[Cut, ...]) -> None:
        base = Decomposition(problem, cuts=cuts)
        candidate = base.add_candidate(base.master.complete(nodes))
        assert candidate is not None  # noqa: S101 - there is no time limit
        self.problem = problem
        self._programs, self._master, self._cuts = base.programs, base.master, tuple(base.cuts)
        self._relaxed, bound = self._master.relaxed()
        self._master.complete(nodes)  # questions start from its basis
        self.answer = self._summary(problem, nodes, candidate, bound)

    def ask(self, question: WhatIf, units: float = 0.05) -> WhatIfResult:
        """Answer a question with about that much work, and always with a whole fleet and a proven gap.

        Each fleet that is tried is in whole nodes, so it is an answer and gives cuts at once. The first is the plan's
        own, changed as the relaxed fleet changes: so the two plans differ by the question and not by their rounding.
        """
        with PauseGC():  # the collector would search the models of earlier questions
            try:
                return self._answer(question.of(self.problem), units)
            finally:
                self._programs.rebind(self.problem)

    def _answer(self, problem: Problem, units: float) -> WhatIfResult:
        """Try fleets until one is near enough to the bound or the work is done."""
        work = Work(units)
        decomposition = Decomposition(problem, cuts=self._cuts, programs=self._programs)
        decomposition.master.begin_at(self._master)
        relaxed, _ = decomposition.master.relaxed()
        fleet = self.answer.nodes + relaxed - self._relaxed
        best = self._rounded(decomposition, fleet, THRESHOLDS[0], work)
        for turn in range(1, MOST_ROUNDS):
            spent = units - work.units
            if best.gap <= problem.settings.mip_gap or spent * (turn + 1) / turn > units:
                break
            relaxed, _ = decomposition.master.relaxed()  # with the cuts of the last fleet
            fleet = TOWARDS_MASTER * relaxed + (1 - TOWARDS_MASTER) * fleet
            both = best, self._rounded(decomposition, fleet, THRESHOLDS[turn % len(THRESHOLDS)], work)
            best = replace(min(both, key=lambda result: result.objective), bound=max(each.bound for each in both))
        return best

    def _rounded(self, decomposition: Decomposition, exact: Array, threshold: float, work: Work) -> WhatIfResult:
        """Round a fleet, price it, keep its cuts, and return it with what is proven by them."""
        problem = decomposition.problem
        (rounded,) = round_at(exact, [threshold])
        nodes = fit_budget(problem, repair(problem, rounded), exact)
        candidate = decomposition.add_candidate(decomposition.master.complete(nodes), work)
        assert candidate is not None  # noqa: S101 - there is no time limit
        return self._summary(problem, nodes, candidate, decomposition.master.relaxed()[1])

    def _summary(self, problem: Problem, nodes: Counts, candidate: Candidate, bound: float) -> WhatIfResult:
        short = self._programs.short_gpus(candidate.recourse).mean(axis=0)
        return WhatIfResult(
            problem=problem,
            nodes=nodes,
            objective=candidate.objective,
            bound=bound,
            cost=float(problem.money(nodes).sum()),
            short_by_workload=short @ np.array(problem.periods.lengths),
        )


def ask(plan: Plan, problem: Problem, question: WhatIf, units: float = 0.4) -> tuple[WhatIfResult, WhatIfResult]:
    """Return a plan as it is and as the question would have it; the plan was made from `problem`."""
    solver = WhatIfSolver(problem, nodes_of(plan, problem), cuts_from_bytes(plan.warm_start))
    return solver.answer, solver.ask(question, units)


def apply_amount(name: str, text: str, value: float) -> float:
    """Return a value changed by an amount such as `20`, `+5` or `-10%`."""
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise InputError(name, text, "is no amount: give one as 20, +5 or -10%")
    sign, number, per_cent = match[1], float(match[2]), match[3]
    amount = value * number / 100 if per_cent else number
    return value + (-amount if sign == "-" else amount) if sign else amount


def _selector(text: str, given: str) -> str:
    """Check which series are meant: `tenant:vision`, `class:latency`, `accelerator:h100`, or all."""
    kind, colon, name = text.partition(":")
    if text == "all":
        return ""
    if kind not in SELECTORS or not colon or not name:
        raise InputError("demand", given, f"is not understood: give {'|'.join(SELECTORS)}:NAME=AMOUNT or all=AMOUNT")
    return text


def _changed_pool(fleet: Fleet, name: str, part: str, amount: str) -> Fleet:
    """Change one field of one pool; its own checks refuse what cannot be."""
    pool, target = fleet.pool(name), POOL_FIELDS[part]
    value = apply_amount(f"pools[{name}].{target}", amount, float(getattr(pool, target)))
    changed = replace(pool, **{target: value if part == "price" else round(value)})
    return replace(fleet, pools=tuple(changed if other is pool else other for other in fleet.pools))


def _limit(name: str, text: str, now: float | None) -> float:
    """Change a limit; a relative change needs a present one."""
    if now is None and (text[:1] in "+-" or text.endswith("%")):
        raise InputError(name, text, "is relative, and the plan has no such limit: give an amount")
    value = apply_amount(name, text, now or 0.0)
    if not value > 0:
        raise InputError(name, text, "leaves nothing: give an amount greater than 0")
    return value


def side_by_side(before: WhatIfResult, after: WhatIfResult) -> pl.DataFrame:
    """Return node-hours and money by pool before and after, the largest change of money first."""
    pools = before.by_pool().join(after.by_pool(), on="pool", how="full", coalesce=True, suffix="_then").fill_null(0.0)
    return pools.with_columns(
        node_hours_change=pl.col("node_hours_then") - pl.col("node_hours"),
        cost_change=pl.col("cost_then") - pl.col("cost"),
    ).sort(pl.col("cost_change").abs(), descending=True)
