"""A plan as the ledger's capacity calendar."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby

from gangplan.types import CapacityCalendar, CapacityInterval, Plan


def to_calendar(plan: Plan) -> CapacityCalendar:
    """Give planned nodes by pool and time; hours in a row with equal nodes are one interval."""
    rows: list[tuple[datetime, str, int]] = list(plan.nodes.sort("pool", "hour").iter_rows())
    intervals: list[CapacityInterval] = []
    for (pool, nodes), run in groupby(rows, key=lambda row: (row[1], row[2])):
        hours = [hour for hour, _, _ in run]
        end = hours[-1] + timedelta(hours=1)
        intervals.append(CapacityInterval(pool=pool, start=hours[0], end=end, nodes=nodes))
    return CapacityCalendar(plan_id=plan.plan_id, pools=plan.fleet.pools, intervals=tuple(intervals))
