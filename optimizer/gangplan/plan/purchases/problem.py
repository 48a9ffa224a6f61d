"""The question of months in numbers: offers, what stands anyway, and one path of the plan's model for each week."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.problem import Array, Blocks, Counts, Periods, PlanPolicy, Problem, workload_of
from gangplan.plan.purchases.demand import WEEK, LongDemand
from gangplan.types import Fleet, PoolKind, Term

WEEK_BLOCKS: Blocks = ((WEEK, 4),)
"""A typical week is seen in blocks of four hours."""

BEYOND = 0.1
"""The share of money bound after the horizon that counts as lost: without it long terms would look free at its end."""

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)  # where typical weeks begin: prices by hour of the day are read from there
_MONTH = 730.5  # hours


@dataclass(frozen=True, kw_only=True, eq=False)
class HorizonProblem:
    """What is decided: nodes bought of each offer in each month, for all paths at once.

    `weeks` is a plan's problem whose path (path * months + month) * typical weeks + week is one typical week; the
    pools without a term take nodes there as demand asks. `base` are nodes that stand without buying, (pools, months).
    `beyond` is the share of money bound after the last month that counts.
    """

    demand: LongDemand
    fleet: Fleet
    weeks: Problem
    base: Counts
    beyond: float = BEYOND

    @property
    def offers(self) -> tuple[Term, ...]:
        """What may be bought."""
        return self.fleet.terms

    @property
    def months(self) -> range:
        """The months by number."""
        return range(self.demand.months)

    @property
    def paths(self) -> range:
        """The paths by number."""
        return range(len(self.demand.means))

    @cached_property
    def pool_of(self) -> tuple[int, ...]:
        """The pool of each offer."""
        place = {pool.name: p for p, pool in enumerate(self.fleet.pools)}
        return tuple(place[offer.pool] for offer in self.offers)

    @cached_property
    def month_of(self) -> Counts:
        """The month of each typical week of each path."""
        return np.tile(np.repeat(np.array(self.months), len(self.demand.weights)), len(self.paths)).astype(np.int64)

    @cached_property
    def times(self) -> Array:
        """How often each typical week of each path happens in its month."""
        each = np.outer(self.demand.hours / WEEK, self.demand.weights).ravel()
        return np.tile(each, len(self.paths))

    def first_month(self, o: int) -> int:
        """The month in which what is ordered at once stands: new nodes take their lead time."""
        return math.ceil(self.fleet.pools[self.pool_of[o]].lead_time_hours / _MONTH)

    def paid(self, o: int, month: int) -> range:
        """The months of the horizon in which a node that begins then stands and is paid for."""
        return range(month, min(month + self.offers[o].months, len(self.months)))

    def money(self, o: int, month: int) -> float:
        """Money within the horizon for a node of an offer that begins in a month."""
        return self.offers[o].price_per_node_hour * float(self.demand.hours[list(self.paid(o, month))].sum())

    def bound_beyond(self, o: int, month: int) -> float:
        """Money that such a node costs after the horizon, where nothing says yet whether it is of use."""
        return self.offers[o].price_per_node_hour * _MONTH * max(0, month + self.offers[o].months - len(self.months))

    def price(self, o: int, month: int) -> float:
        """What such a node counts: its money, and a share of what is bound beyond the horizon."""
        return self.money(o, month) + self.beyond * self.bound_beyond(o, month)

    def standing(self, buy: Counts) -> Counts:
        """The nodes that stand in each month, (pools, months), when so many of each offer begin in each month."""
        nodes = self.base.copy()
        for o, p in enumerate(self.pool_of):
            for month in self.months:
                nodes[p, list(self.paid(o, month))] += buy[o, month]
        return nodes

    @cached_property
    def base_money(self) -> float:
        """Money for what stands without buying: no choice, and the same in every alternative."""
        prices = np.array([pool.price_per_node_hour for pool in self.fleet.pools])
        return float(prices @ self.base @ self.demand.hours)


def pose_horizon(
    demand: LongDemand, fleet: Fleet, *, settings: Settings, policy: PlanPolicy | None = None, beyond: float = BEYOND
) -> HorizonProblem:
    """Put the question together; refuse what cannot be asked.

    Owned nodes stand as they run now, committed ones until their term ends; on demand and spot are taken by the hour,
    as each path asks. Demand of a class with a reserve counts with it.

    Raises
    ------
    InputError
        The fleet offers no term, a series is of no known class, or a quota is more than the fleet has.
    """
    policy = policy or PlanPolicy()
    if not fleet.terms:
        raise InputError("terms", "[]", "is empty: write what a committed pool costs by term into the fleet file")
    base = _base(fleet, demand)
    weeks = _weeks(demand, _with_room(fleet, base), settings, policy)
    useful = {p for w in range(len(weeks.workloads)) for g in weeks.served_by[w] for p in weeks.groups[g].pools}
    hired = tuple(p for p in sorted(useful) if fleet.pools[p].kind in (PoolKind.ON_DEMAND, PoolKind.SPOT))
    return HorizonProblem(demand=demand, fleet=fleet, weeks=replace(weeks, hired=hired), base=base, beyond=beyond)


def _weeks(demand: LongDemand, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> Problem:
    """Put every typical week of every month and path into one plan's problem, each as a path of its own."""
    kinds = [workload_of(one, policy) for one in demand.series]
    workloads, periods = tuple(dict.fromkeys(kinds)), Periods.from_horizon(WEEK, WEEK_BLOCKS)
    reserve = np.array([1 + policy.of(kind.workload_class).reserve for kind in kinds])
    paths = np.einsum("ksm,wsh->kmwsh", demand.means * reserve[:, None], periods.means(demand.weeks))
    paths = paths.reshape(-1, len(demand.series), len(periods))
    shape = (len(fleet.pools), len(periods))
    return Problem(
        fleet=fleet,
        settings=settings.model_copy(update={"scenarios": len(paths), "budget": None}),
        policy=policy,
        start=_MONDAY,
        periods=periods,
        series=demand.series,
        workloads=workloads,
        workload_of=tuple(workloads.index(kind) for kind in kinds),
        quantiles=np.zeros((len(demand.series), 0, 0)),
        paths=paths,
        supply=np.ones((len(paths), *shape)),
        held=np.zeros(shape, dtype=np.int64),
        previous=np.full(shape, -1, dtype=np.int64),
    )


def _base(fleet: Fleet, demand: LongDemand) -> Counts:
    """Nodes that stand without buying: owned ones always, committed ones up to the month in which their term ends."""
    nodes = np.zeros((len(fleet.pools), demand.months), dtype=np.int64)
    for p, pool in enumerate(fleet.pools):
        now = fleet.nodes.get(pool.name, 0)
        if pool.kind == PoolKind.OWNED:
            nodes[p] = max(now, pool.min_nodes)
        if pool.kind == PoolKind.COMMITTED:
            until = fleet.committed_until.get(pool.name)
            nodes[p] = [now if until is None or edge < until else 0 for edge in demand.edges[:-1]]
    return nodes


def _with_room(fleet: Fleet, base: Counts) -> Fleet:
    """Let no quota be measured by less than what stands already."""
    most = [max(pool.max_nodes, int(row.max(initial=0))) for pool, row in zip(fleet.pools, base, strict=True)]
    return replace(fleet, pools=tuple(replace(one, max_nodes=m) for one, m in zip(fleet.pools, most, strict=True)))
