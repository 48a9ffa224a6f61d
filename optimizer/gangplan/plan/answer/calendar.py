"""A plan as the ledger's capacity calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from gangplan.types import CapacityCalendar, CapacityInterval, Plan

Row = tuple[datetime, str, int]


def to_calendar(plan: Plan, held: Mapping[str, Sequence[int]] | None = None) -> CapacityCalendar:
    """Give planned nodes by pool and time; hours in a row with equal nodes are one interval.

    `held` are nodes by pool and hour that reservations stand on: the calendar never has fewer, beyond the plan's hours
    either, where its last counts go on.
    """
    rows = _longer(list(plan.nodes.sort("pool", "hour").iter_rows()), max(map(len, (held or {}).values()), default=0))
    least = {
        (plan.issued_at + timedelta(hours=hour), pool): nodes
        for pool, counts in (held or {}).items()
        for hour, nodes in enumerate(counts)
    }
    raised = [(hour, pool, max(nodes, least.get((hour, pool), 0))) for hour, pool, nodes in rows]
    intervals: list[CapacityInterval] = []
    for (pool, nodes), run in groupby(raised, key=lambda row: (row[1], row[2])):
        hours = [hour for hour, _, _ in run]
        end = hours[-1] + timedelta(hours=1)
        intervals.append(CapacityInterval(pool=pool, start=hours[0], end=end, nodes=nodes))
    return CapacityCalendar(plan_id=plan.plan_id, pools=plan.fleet.pools, intervals=tuple(intervals))


def _longer(rows: list[Row], hours: int) -> list[Row]:
    """Let each pool's last count go on until one hour after so many hours."""
    found: list[Row] = []
    for pool, run in groupby(rows, key=lambda row: row[1]):
        mine = list(run)
        last, _, nodes = mine[-1]
        more = hours + 1 - len(mine) if hours > len(mine) else 0
        found += [*mine, *((last + timedelta(hours=hour + 1), pool, nodes) for hour in range(more))]
    return found
