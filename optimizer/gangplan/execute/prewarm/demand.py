"""How many GPUs a plan keeps for latency-bound demand, hour by hour.

A plan runs nodes, and says what it is short of; it names no GPUs for a series. Latency-bound work does not wait and is
the dearest to leave unserved, so it gets what it asks for, up to a level of its forecast, wherever the plan is not
short. Where it is, the 95 % quantile of the demand less the shortage at the worst 5 % is what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import polars as pl

from gangplan.clock import floor_hour, require_utc
from gangplan.errors import InputError
from gangplan.execute.prewarm.settings import Serving
from gangplan.types import SERIES, Forecast, Plan, Pool, WorkloadClass

Hourly: TypeAlias = Mapping[datetime, float]
"""GPUs by hour."""


def ahead_of(entry: Serving, pools: Sequence[Pool]) -> timedelta:
    """Return how long before the hour its replicas are asked for."""
    given = entry.ahead_minutes
    return timedelta(minutes=max(pool.startup_minutes_p95 for pool in pools) if given is None else given)


def hours_from(plan: Plan, now: datetime, ahead: timedelta) -> list[datetime]:
    """Return the plan's hours from that of `now` to the last that begins within `ahead`."""
    hour = floor_hour(require_utc("now", now))
    planned = plan.nodes.select("hour").unique().sort("hour")["hour"].to_list()
    if hour not in planned:
        span = f"{planned[0]:%Y-%m-%dT%H:%MZ} to {planned[-1]:%Y-%m-%dT%H:%MZ}" if planned else "nothing"
        raise InputError("now", f"{hour:%Y-%m-%dT%H:%MZ}", f"is outside the plan, which covers {span}: plan again")
    return [each for each in planned if hour <= each <= max(now + ahead, hour)]


def kept_for(entry: Serving, plan: Plan, forecast: Forecast, hours: Sequence[datetime]) -> Hourly:
    """Return the GPUs that the plan keeps for an entry's demand in these hours.

    Raises
    ------
    InputError
        The forecast has no such latency-bound series, or the plan was not made for it, or not for these hours.
    """
    mine = (pl.col("workload_class") == WorkloadClass.LATENCY.value) & (pl.col("accelerator") == entry.accelerator)
    of_tenant = (pl.col("tenant") == entry.tenant) if entry.tenant else pl.lit(value=True)
    asked = forecast.quantiles.filter(mine)
    if asked.filter(of_tenant).is_empty():
        raise _unknown(entry, forecast)
    asked = asked.filter(of_tenant & pl.col("hour").is_in(hours))
    keys = ["hour", *SERIES]
    both = asked.join(plan.shortage.select(*keys, "p95_gpus"), on=keys, how="left")
    if both["p95_gpus"].null_count() or both["hour"].n_unique() < len(hours):
        remedy = "is not the forecast of this plan: give the one that the plan was made from"
        raise InputError("forecast", forecast.model, f"{remedy} ({plan.plan_id})")
    found = both.group_by("hour").agg(_kept(entry.level).sum().alias("gpus")).sort("hour")
    return dict(found.select("hour", "gpus").iter_rows())


def _kept(level: float) -> pl.Expr:
    asked, short = pl.col(f"q{level:g}"), pl.col("p95_gpus")
    there = pl.when(short > 0).then(pl.col("q0.95") - short).otherwise(asked)
    return pl.min_horizontal(asked, there).clip(lower_bound=0)


def _unknown(entry: Serving, forecast: Forecast) -> InputError:
    latency = forecast.quantiles.filter(pl.col("workload_class") == WorkloadClass.LATENCY.value)
    known = latency.select("tenant", "accelerator").unique().sort("tenant", "accelerator").rows()
    named = ", ".join("/".join(names) for names in known) or "none"
    asked = f"{entry.tenant or '*'}/{entry.accelerator}"
    remedy = f"has no latency-bound demand in the forecast, which has (tenant/accelerator) {named}: name one of these"
    return InputError(f"{entry}.accelerator", asked, remedy)


class Room:
    """The GPUs of an hour's planned nodes that no server has been given yet."""

    def __init__(self, plan: Plan, hour: datetime) -> None:
        rows = plan.nodes.filter(pl.col("hour") == hour).select("pool", "nodes").iter_rows()
        self._pools = {pool.name: pool for pool in plan.fleet.pools}
        self._nodes: dict[str, int] = dict(rows)
        self._free = {name: float(count * self._pools[name].gpus_per_node) for name, count in self._nodes.items()}

    def take(self, pools: Sequence[Pool], replicas: int, gpus: float) -> int:
        """Give as many replicas of so many GPUs as there is room for, and return their number."""
        given = 0
        for pool in pools:
            fits = min(replicas - given, self._fits(pool.name, gpus))
            self._free[pool.name] = self._free.get(pool.name, 0.0) - fits * gpus
            given += fits
        return given

    def _fits(self, name: str, gpus: float) -> int:
        """Return how many replicas fit: a replica that is no larger than a node lies on one node."""
        nodes = self._nodes.get(name, 0)
        by_room = int(self._free.get(name, 0.0) / gpus + 1e-9)
        per_node = int(self._pools[name].gpus_per_node / gpus + 1e-9) if nodes else 0
        return min(by_room, nodes * per_node) if per_node else by_room
