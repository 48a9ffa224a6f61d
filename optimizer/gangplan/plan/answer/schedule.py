"""A plan in time: the capacity calendar that it publishes, and which nodes to order when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import polars as pl

from gangplan.clock import HOUR
from gangplan.types import CapacityCalendar, CapacityInterval, Plan, Pool

Row = tuple[datetime, str, int]


def to_calendar(plan: Plan, held: Mapping[str, Sequence[int]] | None = None) -> CapacityCalendar:
    """Return the ledger's capacity calendar of a plan; consecutive hours with equal nodes are one interval.

    `held` are nodes by pool and hour that reservations use. The calendar never has fewer, even after the plan's last
    hour, where its last counts continue.
    """
    held = held or {}
    rows = _extended(plan.nodes.sort("pool", "hour").rows(), max(map(len, held.values()), default=0))
    least = {
        (plan.issued_at + hour * HOUR, pool): nodes
        for pool, counts in held.items()
        for hour, nodes in enumerate(counts)
    }
    raised = [(hour, pool, max(nodes, least.get((hour, pool), 0))) for hour, pool, nodes in rows]
    intervals: list[CapacityInterval] = []
    for (pool, nodes), equal in groupby(raised, key=lambda row: (row[1], row[2])):
        hours = [hour for hour, _, _ in equal]
        intervals.append(CapacityInterval(pool=pool, start=hours[0], end=hours[-1] + HOUR, nodes=nodes))
    return CapacityCalendar(plan_id=plan.plan_id, pools=plan.fleet.pools, intervals=tuple(intervals))


def _extended(rows: list[Row], hours: int) -> list[Row]:
    """Repeat each pool's last count until it has one hour more than `hours`, if it has fewer."""
    extended: list[Row] = []
    for pool, of_pool in groupby(rows, key=lambda row: row[1]):
        known = list(of_pool)
        last, _, nodes = known[-1]
        more = hours + 1 - len(known) if hours > len(known) else 0
        extended += [*known, *((last + (hour + 1) * HOUR, pool, nodes) for hour in range(more))]
    return extended


@dataclass(frozen=True, kw_only=True)
class Order:
    """Nodes of a pool to be started at `order_at`, so that they serve from `serve_at`.

    Half of such starts are up by `half_by`. Negative `nodes` are to be stopped, at `serve_at`.
    """

    pool: str
    nodes: int
    order_at: datetime
    serve_at: datetime
    half_by: datetime | None = None


def orders(plan: Plan, hours: int = 24) -> tuple[Order, ...]:
    """Return what is to be started and stopped within the plan's first hours, by time."""
    unsorted = [order for pool in plan.fleet.pools for order in _orders(plan, pool, hours)]
    return tuple(sorted(unsorted, key=lambda order: (order.order_at, order.pool)))


def _orders(plan: Plan, pool: Pool, hours: int) -> Iterator[Order]:
    """Compare each hour's nodes of a pool with the hour before."""
    rows = plan.nodes.filter(pl.col("pool") == pool.name).sort("hour")
    before = plan.fleet.nodes.get(pool.name, 0)
    for hour, nodes in rows["hour", "nodes"].iter_rows():
        if nodes != before and hour < plan.issued_at + hours * HOUR:
            yield order_of(pool, nodes - before, hour)
        before = nodes


def order_of(pool: Pool, nodes: int, serve_at: datetime) -> Order:
    """Return when to order nodes, or when to stop them if `nodes` is negative."""
    if nodes < 0:
        return Order(pool=pool.name, nodes=nodes, order_at=serve_at, serve_at=serve_at)
    if pool.startup_minutes_p95 <= 0:
        return Order(pool=pool.name, nodes=nodes, order_at=serve_at - pool.lead_time_hours * HOUR, serve_at=serve_at)
    at = serve_at - timedelta(minutes=pool.startup_minutes_p95)
    half = at + timedelta(minutes=pool.startup_minutes_p50)
    return Order(pool=pool.name, nodes=nodes, order_at=at, serve_at=serve_at, half_by=half)


def order_text(order: Order) -> str:
    """Return an order as a sentence."""
    nodes = "1 node" if abs(order.nodes) == 1 else f"{abs(order.nodes)} nodes"
    if order.nodes < 0:
        return f"Stop {nodes} of {order.pool} at {_at(order.serve_at)}."
    if order.order_at == order.serve_at:
        return f"Start {nodes} of {order.pool} at {_at(order.order_at)}: they serve at once."
    half = "" if order.half_by is None else f" (half of such starts are up by {order.half_by:%H:%M}, 95 of 100 in time)"
    return f"Start {nodes} of {order.pool} at {_at(order.order_at)} so that they serve at {_at(order.serve_at)}{half}."


def _at(moment: datetime) -> str:
    return f"{moment:%a %d %b %H:%M}"
