"""The purchase problem in numbers: offers, nodes that run anyway, and one path of the plan's model for each week.

Below, nodes of a pool "stand" in a month when they run for a term: bought before, or in a term that is bought now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.problem import (
    Array,
    Blocks,
    Catalogue,
    Counts,
    Periods,
    PlanPolicy,
    Problem,
    read_catalogue,
    workload_of,
)
from gangplan.plan.purchases.demand import BEYOND, WEEK, LongDemand
from gangplan.types import Fleet, Pool, PoolKind, Term

WEEK_BLOCKS: Blocks = ((WEEK, 4),)
"""A typical week is planned in periods of four hours."""

YEAR = 12
"""Months: the term of a committed pool that has none in the fleet file."""

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)  # the start of typical weeks, for prices by hour of the day
_MONTH = 730.5  # hours


@dataclass(frozen=True, kw_only=True, eq=False)
class PurchaseProblem:
    """How many nodes of each offer to buy in each month, for all paths at once.

    `weeks` is a plan's problem in which each path is one typical week: number (path * months + month) * typical weeks +
    week. There, pools without a term take nodes as demand needs them. `base` are nodes that run without buying, shape
    (pools, months). `beyond` is the share of money bound after the last month that counts.
    """

    demand: LongDemand
    fleet: Fleet
    weeks: Problem
    base: Counts
    beyond: float = BEYOND

    @property
    def offers(self) -> tuple[Term, ...]:
        """The offers: what may be bought."""
        return self.fleet.terms

    @property
    def months(self) -> range:
        """The numbers of the months."""
        return range(self.demand.months)

    @property
    def paths(self) -> range:
        """The numbers of the paths."""
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
        """How often each typical week of each path occurs in its month."""
        each = np.outer(self.demand.hours / WEEK, self.demand.weights).ravel()
        return np.tile(each, len(self.paths))

    def first_month(self, o: int) -> int:
        """Return the month from which nodes run that are ordered now: new nodes take their lead time."""
        return math.ceil(self.fleet.pools[self.pool_of[o]].lead_time_hours / _MONTH)

    def paid(self, o: int, month: int) -> range:
        """Return the months of the horizon in which a node runs, and is paid for, whose term begins in `month`."""
        return range(month, min(month + self.offers[o].months, len(self.months)))

    def money(self, o: int, month: int) -> float:
        """Return the money within the horizon for a node whose term begins in `month`."""
        return self.offers[o].price_per_node_hour * float(self.demand.hours[list(self.paid(o, month))].sum())

    def bound_beyond(self, o: int, month: int) -> float:
        """Return the money for that node after the horizon, where its use is not known."""
        return self.offers[o].price_per_node_hour * _MONTH * max(0, month + self.offers[o].months - len(self.months))

    def price(self, o: int, month: int) -> float:
        """Return what that node counts: its money, and a share of the money bound beyond the horizon."""
        return self.money(o, month) + self.beyond * self.bound_beyond(o, month)

    def standing(self, buy: Counts) -> Counts:
        """Return the nodes that stand, shape (pools, months), when `buy`, shape (offers, months), is bought."""
        nodes = self.base.copy()
        for o, p in enumerate(self.pool_of):
            for month in self.months:
                nodes[p, list(self.paid(o, month))] += buy[o, month]
        return nodes

    @cached_property
    def base_money(self) -> float:
        """Money for the nodes that run without buying: the same whatever is decided."""
        prices = np.array([pool.price_per_node_hour for pool in self.fleet.pools])
        return float(prices @ self.base @ self.demand.hours)


def with_offers(fleet: Fleet, catalogue: Catalogue | None = None) -> tuple[Fleet, str]:
    """Return the fleet with its offers, and a sentence about their origin.

    A fleet without terms gets a year of its committed pools at their price. One without committed pools gets each
    on-demand pool's nodes at the catalogue's shares of their price.
    """
    if fleet.terms:
        return fleet, ""
    committed = [pool for pool in fleet.pools if pool.kind == PoolKind.COMMITTED]
    if committed:
        terms = tuple(
            Term(pool=pool.name, months=YEAR, price_per_node_hour=pool.price_per_node_hour) for pool in committed
        )
        return replace(fleet, terms=terms), f"The fleet file names no terms: its committed pools for {YEAR} months."
    catalogue = catalogue or read_catalogue()
    pools = tuple(_committed(pool) for pool in fleet.pools if pool.kind == PoolKind.ON_DEMAND)
    terms = tuple(
        Term(pool=pool.name, months=months, price_per_node_hour=round(share * pool.price_per_node_hour, 2))
        for pool in pools
        for months, share in catalogue.terms.items()
    )
    offered = replace(fleet, pools=(*fleet.pools, *pools), terms=terms)
    shares = " and ".join(f"{months} months at {share:.0%}" for months, share in catalogue.terms.items())
    return offered, (
        f"The fleet file has no committed pool: looked at {shares} of the price on demand, estimates of "
        f"{catalogue.as_of}. Write your own offers under `terms`."
    )


def _committed(pool: Pool) -> Pool:
    """Return the committed pool that stands for an on-demand one."""
    name = f"{pool.name.removesuffix('-on-demand')}-committed"
    return replace(
        pool,
        name=name,
        kind=PoolKind.COMMITTED,
        min_nodes=0,
        price_factors=(),
        startup_minutes_p50=0,
        startup_minutes_p95=0,
    )


def build_purchase_problem(
    demand: LongDemand, fleet: Fleet, *, settings: Settings, policy: PlanPolicy | None = None, beyond: float = BEYOND
) -> PurchaseProblem:
    """Build the problem; refuse what cannot be planned.

    Owned nodes continue to run, committed ones until their term ends. On-demand and spot nodes are taken by the hour as
    each path needs them. Demand of a class with a reserve counts with that reserve.
    A fleet without offers, a series of no known class and a quota of more than the fleet has are refused.
    """
    policy = policy or PlanPolicy()
    if not fleet.terms:
        raise InputError("terms", "[]", "is empty: write what a committed pool costs by term into the fleet file")
    base = _base(fleet, demand)
    weeks = _weeks(demand, _with_room(fleet, base), settings, policy)
    useful = {p for w in range(len(weeks.workloads)) for g in weeks.served_by[w] for p in weeks.groups[g].pools}
    hired = tuple(p for p in sorted(useful) if fleet.pools[p].kind in (PoolKind.ON_DEMAND, PoolKind.SPOT))
    return PurchaseProblem(demand=demand, fleet=fleet, weeks=replace(weeks, hired=hired), base=base, beyond=beyond)


def _weeks(demand: LongDemand, fleet: Fleet, settings: Settings, policy: PlanPolicy) -> Problem:
    """Make one plan's problem of every typical week of every month and path, each as a path of its own."""
    kinds = [workload_of(series, policy) for series in demand.series]
    workloads, periods = tuple(dict.fromkeys(kinds)), Periods.from_horizon(WEEK, WEEK_BLOCKS)
    reserve = np.array([1 + policy.of(kind.workload_class).reserve for kind in kinds])
    paths = np.einsum("ksm,wsh->kmwsh", demand.means * reserve[:, None], periods.means(demand.weeks))
    paths = paths.reshape(-1, len(demand.series), len(periods))
    shape = (len(fleet.pools), len(periods))
    return Problem(
        fleet=replace(fleet, pools=tuple(replace(pool, idle_kw_per_node=0.0) for pool in fleet.pools)),
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
    """Return the nodes that run without buying: owned ones always, committed ones while their term lasts."""
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
    """Raise each pool's maximum to what runs already, so that quotas are not measured by less."""
    most = [max(pool.max_nodes, int(row.max(initial=0))) for pool, row in zip(fleet.pools, base, strict=True)]
    pools = (replace(pool, max_nodes=nodes) for pool, nodes in zip(fleet.pools, most, strict=True))
    return replace(fleet, pools=tuple(pools))
