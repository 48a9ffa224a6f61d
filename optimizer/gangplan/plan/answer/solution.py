"""A solved problem as arrays: what runs, is served, waits and is short; and the limits that it had to bend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gangplan.plan.problem import BELOW_MINIMUM_FACTOR, OVER_BUDGET_PRICE, RESERVE_FACTOR, Array, Counts, Problem
from gangplan.tables import PLAN_LIMITS, conform, empty

if TYPE_CHECKING:  # reading a plan needs no solver
    from gangplan.plan.solver import Decomposition, SearchResult

TOLERANCE = 0.01
"""A shortage of fewer GPUs is the solver's rounding."""

NEARLY = 0.995
"""The share of a budget or quota from which it counts as used up: one whole node more may not fit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A search's result as arrays.

    short : GPUs, shape (scenarios, workloads, periods)
    backlog : GPU-hours that wait, in the same shape
    serve : GPUs by (workload, group), under whatever cap, each of shape (scenarios, periods)
    capped : those of them under each cap, by its place in the problem's modes, in the same shape
    reserve_gap, zone_gap : GPUs that the reserves lack, by accelerator, each of shape (periods,)
    below_minimum : nodes that a pool lacks, by its index, each of shape (periods,)
    over_carbon : kilograms over the carbon cap in the mean of the paths, where they differ by path
    """

    problem: Problem
    result: SearchResult
    short: Array
    backlog: Array
    serve: dict[tuple[int, int], Array]
    capped: tuple[Array, ...]
    reserve_gap: dict[str, Array]
    zone_gap: dict[str, Array]
    below_minimum: dict[int, Array]
    over_carbon: float = 0.0

    @property
    def nodes(self) -> Counts:
        """Nodes by pool and period."""
        return self.result.nodes

    @cached_property
    def node_hours(self) -> Array:
        """Node-hours by pool."""
        return (self.nodes @ np.array(self.problem.periods.lengths)).astype(float)

    @cached_property
    def cost(self) -> Array:
        """Money by pool."""
        return self.problem.money(self.nodes)

    @cached_property
    def emission(self) -> Array:
        """Expected kilograms of carbon dioxide by pool; a group's work counts for its pools by their GPUs."""
        problem, lengths = self.problem, np.array(self.problem.periods.lengths, dtype=float)
        emitted = (self.nodes * problem.carbon) @ lengths
        gpus = self.nodes * problem.usable_gpus[:, None]
        for g, kwh in enumerate(self.kwh_at_work):
            pools = list(problem.groups[g].pools)
            total = gpus[pools].sum(axis=0)
            share = np.divide(gpus[pools], total, out=np.zeros((len(pools), len(lengths))), where=total > 0)
            emitted[pools] += share @ (kwh * problem.energy[1][g])
        return emitted

    @cached_property
    def kwh_at_work(self) -> Array:
        """Expected kWh that GPUs at work draw more than idle ones, shape (groups, periods)."""
        problem, lengths = self.problem, np.array(self.problem.periods.lengths, dtype=float)
        kwh = np.zeros((len(problem.groups), len(lengths)))
        for (_, g), gpus in self.serve.items():
            kwh[g] += problem.kw_at_work(g) * gpus.mean(axis=0) * lengths
        for mode, gpus in zip(problem.modes, self.capped, strict=True):
            kwh[mode.group] -= (problem.kw_at_work(mode.group) - mode.kw) * gpus.mean(axis=0) * lengths
        return kwh

    @cached_property
    def kwh_saved(self) -> float:
        """Expected kWh that caps save beside the same GPUs, as long at work, without caps."""
        pairs = zip(self.problem.modes, self.capped, strict=True)
        lengths = np.array(self.problem.periods.lengths, dtype=float)
        return sum(
            (self.problem.kw_at_work(mode.group) - mode.kw) * float(gpus.mean(axis=0) @ lengths) for mode, gpus in pairs
        )

    @cached_property
    def electricity(self) -> float:
        """Expected money for electricity, beside the nodes' prices."""
        problem = self.problem
        price = np.array([problem.pools[group.pools[0]].electricity_per_kwh for group in problem.groups])
        return float(problem.electricity @ self.node_hours + price @ self.kwh_at_work.sum(axis=1))

    @cached_property
    def egress(self) -> float:
        """Expected money for data that leaves its region."""
        lengths = np.array(self.problem.periods.lengths, dtype=float)
        return sum(
            self.problem.egress(*route) * float(gpus.mean(axis=0) @ lengths) for route, gpus in self.serve.items()
        )

    @cached_property
    def expected_short(self) -> Array:
        """Expected GPUs short by workload and period, without the solver's rounding."""
        mean = self.short.mean(axis=0)
        return np.where(mean > TOLERANCE, mean, 0.0)

    @cached_property
    def short_gpu_hours(self) -> Array:
        """Expected GPU-hours short by workload."""
        return self.expected_short @ np.array(self.problem.periods.lengths)

    def series_short(self) -> Array:
        """Divide workloads' shortage among their series by recent demand: GPUs, shape (scenarios, series, periods)."""
        problem = self.problem
        by_series = np.zeros_like(problem.paths)
        amounts = problem.paths * np.array(problem.periods.lengths)
        for w, rule in enumerate(problem.class_policies):
            members = [s for s, workload in enumerate(problem.workload_of) if workload == w]
            longest = max(rule.defer_hours, max(problem.periods.lengths))
            recent = problem.periods.window_sums(amounts[:, members], longest)
            total = recent.sum(axis=1, keepdims=True)
            share = np.divide(recent, total, out=np.zeros_like(recent), where=total > 0)
            by_series[:, members] = share * self.short[:, [w]]
        return by_series


def read_solution(problem: Problem, decomposition: Decomposition, result: SearchResult) -> Solution:
    """Read the values of a search's columns into arrays."""
    master, programs, values = decomposition.master, decomposition.programs, result.candidate.values
    by_path = np.maximum(np.stack(result.candidate.recourse.values), 0.0)

    def of_fleet(variables: Iterable[Any]) -> Array:
        return np.maximum(values[master.form.columns_of(list(variables))], 0.0)

    def of_path(component: Any, *first: int) -> Array:
        return by_path[:, programs.columns_of([component[(*first, t, 0)] for t in path.T])]

    fleet, path = master.model, programs.model
    backlog = np.zeros(problem.demand.shape)
    for w in path.waiting:
        backlog[:, w] = of_path(path.backlog, w)
    capped = tuple(of_path(path.capped, i) for i in range(len(problem.modes)))

    def serving(route: tuple[int, int]) -> Array:
        parts = (gpus for mode, gpus in zip(problem.modes, capped, strict=True) if mode.route == route)
        return sum(parts, of_path(path.serve, *route))

    return Solution(
        problem=problem,
        result=result,
        short=np.maximum(programs.short_gpus(result.candidate.recourse), 0.0),
        backlog=backlog,
        serve={route: serving(route) for route in path.routes},
        capped=capped,
        reserve_gap={a: of_fleet(fleet.reserve_gap[a, t] for t in fleet.T) for a in fleet.reserved},
        zone_gap={a: of_fleet(fleet.zone_gap[a, t] for t in fleet.T) for a in fleet.zoned},
        below_minimum={p: of_fleet(fleet.below_minimum[p, t] for t in fleet.T) for p in fleet.minimum_pools},
        over_carbon=float(by_path[:, programs.columns_of(list(path.over_carbon_path.values()))].sum(axis=1).mean()),
    )


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A limit that binds.

    If the limit was bent, `amount` is by how much (GPU-hours, node-hours or money) and `cost` its price. If it was
    kept, `amount` is the step by which it was widened (nodes, hours of lead time, money), `cost` the money that this
    would save, and `relief` the GPU-hours of expected shortage that this would serve.
    """

    family: str
    name: str
    hours: int
    amount: float
    cost: float = 0.0
    relief: float = 0.0


def to_table(bindings: list[Binding]) -> pl.DataFrame:
    """Return the limits as the plan's table, the most expensive first."""
    if not bindings:
        return empty(PLAN_LIMITS)
    rows = [{key: value for key, value in vars(limit).items() if key != "relief"} for limit in bindings]
    frame = conform("limits", pl.DataFrame(rows), PLAN_LIMITS)
    return frame.sort("cost", "family", "name", descending=[True, False, False])


def bent_limits(solution: Solution) -> list[Binding]:
    """List the limits that the plan had to bend: demand, reserves, minimum nodes, budget, carbon."""
    problem, lengths = solution.problem, np.array(solution.problem.periods.lengths)
    price = problem.settings.shortage_price
    factors = [price * rule.shortage_factor for rule in problem.class_policies]
    families = ["demand" if groups else "no_pool" for groups in problem.served_by]
    names = [workload.name for workload in problem.workloads]
    slacks = [
        *zip(families, names, solution.expected_short, factors, strict=True),
        *(("latency_reserve", name, gap, price * RESERVE_FACTOR) for name, gap in solution.reserve_gap.items()),
        *(("zone_reserve", name, gap, price * RESERVE_FACTOR) for name, gap in solution.zone_gap.items()),
        *(
            ("minimum_nodes", pool.name, solution.below_minimum[p], price * BELOW_MINIMUM_FACTOR * pool.gpus_per_node)
            for p, pool in enumerate(problem.pools)
            if p in solution.below_minimum
        ),
    ]
    bent = [_bent(family, name, amounts, lengths, cost) for family, name, amounts, cost in slacks]
    return [limit for limit in (*bent, *_over_budget(solution), *_over_carbon(solution)) if limit.amount > TOLERANCE]


def _bent(family: str, name: str, amounts: Array, lengths: Counts, price: float) -> Binding:
    """Sum a slack over its periods; `price` is money for each unit and hour."""
    used = amounts > TOLERANCE
    amount = float((amounts * lengths)[used].sum())
    return Binding(family=family, name=name, hours=int(lengths[used].sum()), amount=amount, cost=amount * price)


def _over_budget(solution: Solution) -> list[Binding]:
    """Return what is spent over the budget; the cost of the minimum nodes is no choice and counts only once."""
    budget = solution.problem.settings.budget
    over = 0.0 if budget is None else float(solution.cost.sum()) - budget
    if over <= TOLERANCE or budget is None:
        return []
    chosen = max(0.0, float(solution.cost.sum()) - max(budget, solution.problem.unavoidable_cost))
    cost = chosen * OVER_BUDGET_PRICE + (over - chosen)
    return [Binding(family="over_budget", name="budget", hours=solution.problem.periods.hours, amount=over, cost=cost)]


def _over_carbon(solution: Solution) -> list[Binding]:
    """Return what is emitted over the cap; in the mean, where emissions differ by path."""
    policy = solution.problem.policy
    over = 0.0 if policy.carbon_cap_kg is None else float(solution.emission.sum()) - policy.carbon_cap_kg
    if solution.problem.caps_carbon:
        over = solution.over_carbon
    if over <= TOLERANCE:
        return []
    cost, hours = over * policy.carbon_over_price, solution.problem.periods.hours
    return [Binding(family="carbon_cap", name="carbon", hours=hours, amount=over, cost=cost)]
