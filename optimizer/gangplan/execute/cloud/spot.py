"""Spot prices of EC2 by its own call; Compute Engine has none that tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gangplan.errors import InputError
from gangplan.execute.cloud.ec2_calls import Connect, calling, connect
from gangplan.execute.cloud.prices import PriceChange
from gangplan.types import Pool, PoolKind

_LINUX = "Linux/UNIX"
_SHOWN = 6


def spot_changes(
    pools: Iterable[Pool],
    machines: Mapping[str, str],
    *,
    region: str = "",
    since: datetime,
    until: datetime,
    connect: Connect = connect,
) -> tuple[PriceChange, ...]:
    """Return each spot pool's mean price from `since` to `until`, in its zone, as EC2 tells it.

    Raises
    ------
    InputError
        A pool is no spot pool, has no machine type, or EC2 has no price in its zone.
    """
    return tuple(
        _priced(pool, machines, region or pool.region, since=since, until=until, connect=connect) for pool in pools
    )


def _priced(
    pool: Pool, machines: Mapping[str, str], region: str, *, since: datetime, until: datetime, connect: Connect
) -> PriceChange:
    if pool.kind != PoolKind.SPOT:
        raise InputError(f"pools[{pool.name}].kind", pool.kind.value, "has no spot price: name spot pools with --pool")
    if pool.name not in machines:
        raise InputError("machine", pool.name, f"has none: give its type, --machine {pool.name}=TYPE")
    machine = machines[pool.name]
    told = _history(connect("ec2", region), machine, since, until)
    zones = {each[0] for each in told}
    zone = next(iter(zones)) if len(zones) == 1 else pool.zone
    if zone not in zones:
        known = ", ".join(sorted(zones)[:_SHOWN])
        remedy = f"has no spot price of {machine} in {region}: " + (
            f"use {known}" if known else "check type and region"
        )
        raise InputError(f"pools[{pool.name}].zone", pool.zone, remedy)
    mean = _mean([(at, price) for place, at, price in told if place == zone], since, until)
    return PriceChange(
        pool=pool.name, machine=machine, zone=zone, before=pool.price_per_node_hour, after=round(mean, 6)
    )


def _history(client: Any, machine: str, since: datetime, until: datetime) -> list[tuple[str, datetime, float]]:
    """Return zone, moment and price of each change, the one that holds at `since` included."""
    with calling(f"spot prices of {machine}"):
        pages = client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[machine], ProductDescriptions=[_LINUX], StartTime=since, EndTime=until
        )
        rows: list[dict[str, Any]] = [row for page in pages for row in page["SpotPriceHistory"]]
    return [(row["AvailabilityZone"], row["Timestamp"], float(row["SpotPrice"])) for row in rows]


def _mean(changes: Iterable[tuple[datetime, float]], since: datetime, until: datetime) -> float:
    """Return the mean over time of a price that holds until its next change."""
    ordered = sorted(changes)
    begins = [max(at, since) for at, _ in ordered]
    ends = [*begins[1:], until]
    spans = [max(0.0, (end - begin).total_seconds()) for begin, end in zip(begins, ends, strict=True)]
    if not sum(spans):
        return ordered[-1][1]
    return sum(span * price for span, (_, price) in zip(spans, ordered, strict=True)) / sum(spans)
