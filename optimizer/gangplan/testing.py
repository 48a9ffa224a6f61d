"""For tests of code that reserves: a clock to move, builders with plain defaults, a ledger in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gangplan.reserve import OperableLedger, open_ledger
from gangplan.types import CapacityCalendar, CapacityInterval, GangRequest, PlanId, PodSet, Pool, PoolKind

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


def memory_ledger(clock: FakeClock | None = None, calendar: CapacityCalendar | None = None) -> OperableLedger:
    """Return a ledger in memory, with a calendar (default: `a_calendar`) published."""
    ledger = open_ledger("memory://", clock=clock or FakeClock())
    ledger.publish(calendar or a_calendar())
    return ledger
