"""What reservations already stand on: the nodes that a plan may not take away, hour by hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gangplan.reserve import Ledger
from gangplan.types import Fleet, Plan, Pool, Reservation, ReservationState

HOUR = timedelta(hours=1)
Held = Mapping[str, Sequence[int]]
"""Nodes by pool, one count for each hour."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A stretch of hours in which a plan has fewer nodes of a pool than reservations stand on, and whose they are."""

    pool: str
    start: datetime
    end: datetime
    planned: int
    held: int
    holders: tuple[str, ...]


def held_nodes(ledger: Ledger, fleet: Fleet, start: datetime, hours: int, now: datetime) -> dict[str, list[int]]:
    """Give the nodes that each pool needs for what is granted and what is promised, from `start` on.

    A granted gang needs its pool up to its highest node, until its walltime is over; promised windows need the slots
    that the ledger's calendar holds for them.
    """
    held = {pool.name: [0] * hours for pool in fleet.pools}
    for one in ledger.list(ReservationState.GRANTED):
        for pool, nodes in _stood_on(one).items():
            _raise(held.get(pool), start, now, _until(one, now), nodes)
    end = start + hours * HOUR
    pools = {pool.name: pool for pool in fleet.pools}
    for stretch in ledger.calendar(max(start, now), end) if end > now else ():
        if stretch.pool in pools and stretch.held_gpus:
            nodes = -(-stretch.held_gpus // pools[stretch.pool].slots_per_node)
            _raise(held[stretch.pool], start, stretch.start, stretch.end, nodes)
    return held


def conflicts(plan: Plan, held: Held, live: Iterable[Reservation], now: datetime) -> tuple[Conflict, ...]:
    """Name where a plan has fewer nodes than reservations stand on."""
    granted = [one for one in live if one.state is ReservationState.GRANTED]
    found: list[Conflict] = []
    for pool in plan.fleet.pools:
        rows = plan.nodes.filter(plan.nodes["pool"] == pool.name).sort("hour")
        need = held.get(pool.name, ())
        for hour, count, wanted in zip(rows["hour"], rows["nodes"], need, strict=False):
            if count < wanted:
                _extend(found, pool, hour, count, wanted, _holders(granted, pool, count, hour, now))
    return tuple(found)


def _extend(
    found: list[Conflict], pool: Pool, hour: datetime, planned: int, held: int, holders: tuple[str, ...]
) -> None:
    """Make the last conflict longer, or begin another."""
    last = found[-1] if found else None
    if last and (last.pool, last.end, last.planned, last.held, last.holders) == (
        pool.name,
        hour,
        planned,
        held,
        holders,
    ):
        begin = found.pop().start
    else:
        begin = hour
    found.append(Conflict(pool=pool.name, start=begin, end=hour + HOUR, planned=planned, held=held, holders=holders))


def _holders(granted: list[Reservation], pool: Pool, planned: int, hour: datetime, now: datetime) -> tuple[str, ...]:
    """Name the granted gangs that stand on more nodes of a pool than are planned."""
    return tuple(
        one.request.request_key
        for one in granted
        if _stood_on(one).get(pool.name, 0) > planned and _until(one, now) > hour
    )


def _stood_on(one: Reservation) -> dict[str, int]:
    """Tell up to which node of each pool a gang stands: a calendar of n nodes has those numbered 0 to n - 1."""
    found: dict[str, int] = {}
    for place in one.placements:
        found[place.pool] = max(found.get(place.pool, 0), int(place.node.rpartition("-")[2]) + 1)
    return found


def _until(one: Reservation, now: datetime) -> datetime:
    """Tell until when a granted gang may hold on."""
    return max(one.expires_at or now, (one.granted_at or now) + one.request.limit)


def held_until(one: Reservation, now: datetime) -> datetime:
    """Tell until when a reservation may hold slots; `now` for one that holds none and was promised none."""
    if one.state is ReservationState.GRANTED:
        return _until(one, now)
    return one.eta + one.request.limit if one.promised and one.eta is not None and not one.state.final else now


def _raise(hourly: list[int] | None, start: datetime, since: datetime, until: datetime, nodes: int) -> None:
    """Need so many nodes in every hour that a stretch touches."""
    if hourly is None:
        return
    first = max(0, int((since - start) // HOUR))
    last = min(len(hourly), -int(-(until - start) // HOUR))
    for hour in range(first, last):
        hourly[hour] = max(hourly[hour], nodes)
