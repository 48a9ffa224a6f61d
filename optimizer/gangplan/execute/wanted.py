"""What a plan wants of each pool at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from gangplan.clock import floor_hour, require_utc
from gangplan.errors import InputError
from gangplan.types import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What somebody wants of a pool: nodes to run `now`, and those to be ordered by now for a later hour (`ahead`).

    `quota` is how many slots may be granted, by default those of the nodes; `places` how many of them by each place, by
    default as their weights share them. `whose` goal it is stands in the reasons of
    steps.
    """

    pool: str
    now: int
    ahead: int
    slots_per_node: int
    startup_minutes: float = 0.0
    quota: int | None = None
    places: Mapping[str, int] = field(default_factory=dict[str, int])
    whose: str = "the plan"

    @property
    def slots(self) -> int:
        """The slots that may be granted."""
        return self.now * self.slots_per_node if self.quota is None else self.quota


def goals(plan: Plan, now: datetime) -> tuple[Goal, ...]:
    """Return what the plan wants of its pools, in its own order.

    Raises
    ------
    InputError
        The plan does not cover `now`, or it has a pool that is not in its fleet.
    """
    hour = floor_hour(require_utc("at", now))
    pools = {pool.name: pool for pool in plan.fleet.pools}
    longest = max((pool.startup_minutes_p95 for pool in pools.values()), default=0.0)
    last = floor_hour(now + timedelta(minutes=longest))
    wanted: dict[str, dict[datetime, int]] = {}
    for at, name, nodes in (
        plan.nodes.filter(pl.col("hour").is_between(hour, last)).select("hour", "pool", "nodes").iter_rows()
    ):
        wanted.setdefault(name, {})[at] = nodes
    found: list[Goal] = []
    for name, hours in wanted.items():
        if hour not in hours:
            continue
        pool = pools.get(name) or plan.fleet.pool(name)
        reach = floor_hour(now + timedelta(minutes=pool.startup_minutes_p95))
        found.append(
            Goal(
                pool=name,
                now=hours[hour],
                ahead=max(nodes for at, nodes in hours.items() if at <= reach),
                slots_per_node=pool.slots_per_node,
                startup_minutes=pool.startup_minutes_p95,
            )
        )
    if not found:
        raise _uncovered(plan, hour)
    return tuple(found)


def _uncovered(plan: Plan, hour: datetime) -> InputError:
    """Return the error about a moment outside the plan."""
    first, last = plan.nodes["hour"].min(), plan.nodes["hour"].max()
    span = f"{first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}" if isinstance(first, datetime) else "nothing"
    return InputError("at", f"{hour:%Y-%m-%dT%H:%MZ}", f"is outside the plan, which covers {span}: plan again")
