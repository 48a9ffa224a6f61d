"""For tests of code that reserves or plans: clocks, builders with plain defaults, a ledger in memory."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gangplan.reserve import OperableLedger, open_ledger
from gangplan.types import (
    SERIES,
    CapacityCalendar,
    CapacityInterval,
    Fleet,
    Forecast,
    GangRequest,
    Plan,
    PlanId,
    PodSet,
    Pool,
    PoolKind,
)

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday morning: where a `FakeClock` stands first."""


class FakeClock:
    """A clock that moves only when it is told to; give its `sleep` to `Ledger.wait`."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the moment that it stands at."""
        return self.now

    def advance(self, by: timedelta) -> datetime:
        """Move on, and return the moment reached."""
        self.now += by
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move on instead of sleeping."""
        self.advance(timedelta(seconds=seconds))


@contextmanager
def fixed_clock(now: datetime = NOW) -> Generator[None]:
    """Let the system's clock stand at `now`, for gangplan in this process and in the commands that it starts.

    It is for what takes no clock of its own: a command, an operator, a pipeline's step. While it stands, no lease ends
    and no wait times out.
    """
    before = os.environ.get("GANGPLAN_NOW", "")
    os.environ["GANGPLAN_NOW"] = now.isoformat()
    try:
        yield
    finally:
        os.environ["GANGPLAN_NOW"] = before


def a_request(key: str = "job", **changes: Any) -> GangRequest:
    """Return a request for 2 pods x 4 GPUs of an h100 for an hour, with what is given changed."""
    plain = GangRequest(
        request_key=key,
        tenant="vision",
        pod_sets=(PodSet(count=2, gpus_per_pod=4),),
        accelerators=("h100",),
        duration=timedelta(hours=1),
    )
    return replace(plain, **changes)


def a_pool(name: str = "h100-owned", **changes: Any) -> Pool:
    """Return a pool of 2 nodes x 4 GPUs, with what is given changed; its accelerator is the name's first word."""
    plain: dict[str, Any] = {
        "name": name,
        "accelerator": name.partition("-")[0],
        "gpus_per_node": 4,
        "kind": PoolKind.OWNED,
        "price_per_node_hour": 10.0,
        "min_nodes": 0,
        "max_nodes": 2,
    }
    return Pool(**{**plain, **changes})


def a_calendar(
    pools: Sequence[Pool] = (), *, start: datetime = NOW, hours: Sequence[int] | None = None
) -> CapacityCalendar:
    """Return a calendar of these pools (default: one `a_pool`) from `start`: `hours` nodes by hour, or the most."""
    pools = tuple(pools) or (a_pool(),)
    hour = timedelta(hours=1)
    intervals = tuple(
        CapacityInterval(pool=pool.name, start=start + index * hour, end=start + (index + 1) * hour, nodes=nodes)
        for pool in pools
        for index, nodes in enumerate(hours or [pool.max_nodes])
    )
    return CapacityCalendar(plan_id=PlanId("test-plan"), pools=pools, intervals=intervals)


def a_forecast(
    medians: Mapping[tuple[str, str, str], Sequence[float]],
    start: datetime = NOW,
    spread: Sequence[float] = (0.75, 1.0, 1.3, 1.4, 1.6),
) -> Forecast:
    """Return a forecast from `start`; it needs the extra `forecast` or `plan`.

    Parameters
    ----------
    medians
        GPUs hour by hour, by tenant, workload class and accelerator.
    spread
        The five quantiles as multiples of the median.
    """
    from polars import DataFrame

    from gangplan.tables import QUANTILE_COLUMNS, QUANTILE_TABLE, conform

    rows = [
        {
            "hour": start + hour * timedelta(hours=1),
            **dict(zip(SERIES, series, strict=True)),
            **{column: median * factor for column, factor in zip(QUANTILE_COLUMNS, spread, strict=True)},
        }
        for series, values in medians.items()
        for hour, median in enumerate(values)
    ]
    return Forecast(issued_at=start, model="seasonal", quantiles=conform("quantiles", DataFrame(rows), QUANTILE_TABLE))


def a_plan(start: datetime, nodes: Mapping[str, Sequence[int]], pools: Iterable[Pool] = (), **changes: Any) -> Plan:
    """Return a plan with so many nodes by pool and hour; it needs the extra `forecast` or `plan`.

    Its pools have nodes of 8 GPUs, unless they are given; it costs nothing, and nothing is short.
    """
    from polars import DataFrame

    from gangplan.tables import PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE, conform, empty

    rows = [
        {"hour": start + hour * timedelta(hours=1), "pool": name, "nodes": count}
        for name, counts in nodes.items()
        for hour, count in enumerate(counts)
    ]
    plain = Plan(
        plan_id=PlanId("plan-1"),
        issued_at=start,
        status="optimal",
        gap=0.0,
        total_cost=0.0,
        nodes=conform("nodes", DataFrame(rows), PLAN_NODES),
        cost=empty(PLAN_COST),
        shortage=empty(PLAN_SHORTAGE),
        limits=empty(PLAN_LIMITS),
        explanation=(),
        seed=1,
        fleet=Fleet(pools=tuple(pools) or tuple(a_pool(name, gpus_per_node=8) for name in nodes)),
        forecast_model="seasonal",
    )
    return replace(plain, **changes)


def memory_ledger(clock: FakeClock | None = None, calendar: CapacityCalendar | None = None) -> OperableLedger:
    """Return a ledger in memory, with a calendar (default: `a_calendar`) published."""
    ledger = open_ledger("memory://", clock=clock or FakeClock())
    ledger.publish(calendar or a_calendar())
    return ledger
