"""The changes from the nodes that run to the nodes that the plan wants: a pure function."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from gangplan.clock import floor_hour, require_utc
from gangplan.errors import InputError
from gangplan.types import Fleet, NodeChange, Plan


def diff(plan: Plan, fleet: Fleet, *, at: datetime) -> tuple[NodeChange, ...]:
    """Return the pools whose nodes differ from the plan in the hour of `at`, in the plan's order.

    Raises
    ------
    InputError
        The plan does not cover that hour, or it has a pool that is not in the fleet.
    """
    hour = floor_hour(require_utc("at", at))
    wanted = plan.nodes.filter(pl.col("hour") == hour)
    if wanted.is_empty():
        first, last = plan.nodes["hour"].min(), plan.nodes["hour"].max()
        span = f"{first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}" if isinstance(first, datetime) else "nothing"
        raise InputError("at", f"{hour:%Y-%m-%dT%H:%MZ}", f"is outside the plan, which covers {span}: plan again")
    changes = [
        NodeChange(pool=pool, current=fleet.nodes.get(fleet.pool(pool).name, 0), target=nodes, at=hour)
        for pool, nodes in wanted.select("pool", "nodes").iter_rows()
    ]
    return tuple(change for change in changes if change.target != change.current)
