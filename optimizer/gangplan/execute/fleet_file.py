"""From a plan to a local fleet file: which nodes must start and stop, as a pure function; then the file is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from gangplan.clock import floor_hour, require_utc
from gangplan.config import read_fleet, write_fleet
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


def apply_to_file(changes: tuple[NodeChange, ...], path: Path) -> tuple[NodeChange, ...]:
    """Set the file's `nodes` to the targets; return the changes that were made, from the numbers in the file.

    The file is written in one step. To apply the same changes twice changes nothing more.

    Raises
    ------
    InputError
        The file cannot be read, a pool is not in it, or a target is more than the pool's maximum.
    """
    fleet = read_fleet(path)
    for change in changes:
        most = fleet.pool(change.pool).max_nodes
        if not 0 <= change.target <= most:
            remedy = f"is not from 0 to the pool's max_nodes of {most}: plan again with the present fleet"
            raise InputError(f"target[{change.pool}]", change.target, remedy)
    made = tuple(
        replace(change, current=fleet.nodes.get(change.pool, 0))
        for change in changes
        if fleet.nodes.get(change.pool, 0) != change.target
    )
    if made:
        write_fleet(path, replace(fleet, nodes={**fleet.nodes, **{change.pool: change.target for change in made}}))
    return made
