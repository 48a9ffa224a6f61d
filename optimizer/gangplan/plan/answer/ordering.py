"""What to order when, so that nodes serve when the plan wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from gangplan.types import Plan, Pool

HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Order:
    """Nodes of a pool to be started at a moment, so that they serve from another.

    By `half_by` half of such starts are up. Negative `nodes` are to be stopped, at `serve_at`.
    """

    pool: str
    nodes: int
    order_at: datetime
    serve_at: datetime
    half_by: datetime | None = None


def orders(plan: Plan, hours: int = 24) -> tuple[Order, ...]:
    """Return what is to be started and stopped within the plan's first hours, the first order first."""
    found = [one for pool in plan.fleet.pools for one in _orders(plan, pool, hours)]
    return tuple(sorted(found, key=lambda one: (one.order_at, one.pool)))


def _orders(plan: Plan, pool: Pool, hours: int) -> Iterator[Order]:
    """Compare each hour's nodes with the hour before."""
    rows = plan.nodes.filter(pl.col("pool") == pool.name).sort("hour")
    before = plan.fleet.nodes.get(pool.name, 0)
    for hour, nodes in rows["hour", "nodes"].iter_rows():
        if nodes != before and hour < plan.issued_at + hours * HOUR:
            yield order(pool, nodes - before, hour)
        before = nodes


def order(pool: Pool, nodes: int, serve_at: datetime) -> Order:
    """Say when to order nodes (or, with fewer than none, when to stop them)."""
    if nodes < 0:
        return Order(pool=pool.name, nodes=nodes, order_at=serve_at, serve_at=serve_at)
    if pool.startup_minutes_p95 <= 0:
        return Order(pool=pool.name, nodes=nodes, order_at=serve_at - pool.lead_time_hours * HOUR, serve_at=serve_at)
    at = serve_at - timedelta(minutes=pool.startup_minutes_p95)
    half = at + timedelta(minutes=pool.startup_minutes_p50)
    return Order(pool=pool.name, nodes=nodes, order_at=at, serve_at=serve_at, half_by=half)


def order_text(one: Order) -> str:
    """Say an order as people do."""
    nodes = "1 node" if abs(one.nodes) == 1 else f"{abs(one.nodes)} nodes"
    if one.nodes < 0:
        return f"Stop {nodes} of {one.pool} at {_at(one.serve_at)}."
    if one.order_at == one.serve_at:
        return f"Start {nodes} of {one.pool} at {_at(one.order_at)}: they serve at once."
    half = "" if one.half_by is None else f" (half of such starts are up by {one.half_by:%H:%M}, 95 of 100 in time)"
    return f"Start {nodes} of {one.pool} at {_at(one.order_at)} so that they serve at {_at(one.serve_at)}{half}."


def _at(moment: datetime) -> str:
    """A moment to the minute."""
    return f"{moment:%a %d %b %H:%M}"
