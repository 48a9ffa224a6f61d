"""The nodes that reservations need, hour by hour: a plan may not take them away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TypeAlias

from gangplan.clock import HOUR
from gangplan.reserve import Ledger
from gangplan.types import Fleet, Plan, Pool, Reservation, ReservationState

HourlyNodes: TypeAlias = Mapping[str, Sequence[int]]
"""Nodes by pool, one number for each hour."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A span of hours in which a plan has fewer nodes of a pool than reservations need, and who holds these."""

    pool: str
    start: datetime
    end: datetime
    planned: int
    held: int
    holders: tuple[str, ...]


def reserved_nodes(ledger: Ledger, fleet: Fleet, start: datetime, hours: int, now: datetime) -> dict[str, list[int]]:
    """Return the nodes of each pool that reservations need in each of `hours` hours from `start` on.

    A granted gang needs its pool up to its highest node, until its walltime is over; promised windows need as many
    nodes as the slots that the ledger's calendar keeps for them.
    """
    needed = {pool.name: [0] * hours for pool in fleet.pools}
    for reservation in ledger.list(ReservationState.GRANTED):
        for pool, nodes in _highest_nodes(reservation).items():
            if pool in needed:
                _need(needed[pool], start, now, _lease_end(reservation, now), nodes)
    end = start + hours * HOUR
    pools = {pool.name: pool for pool in fleet.pools}
    for interval in ledger.calendar(max(start, now), end) if end > now else ():
        if interval.pool in pools and interval.held_gpus:
            nodes = -(-interval.held_gpus // pools[interval.pool].slots_per_node)
            _need(needed[interval.pool], start, interval.start, interval.end, nodes)
    return needed


def conflicts(
    plan: Plan, needed: HourlyNodes, reservations: Iterable[Reservation], now: datetime
) -> tuple[Conflict, ...]:
    """Return the spans in which a plan has fewer nodes than reservations need."""
    granted = [reservation for reservation in reservations if reservation.state is ReservationState.GRANTED]
    spans: list[Conflict] = []
    for pool in plan.fleet.pools:
        rows = plan.nodes.filter(plan.nodes["pool"] == pool.name).sort("hour")
        hours = zip(rows["hour"], rows["nodes"], needed.get(pool.name, ()), strict=False)
        each = (
            (hour, planned, held, _holders(granted, pool, planned, hour, now) if planned < held else ())
            for hour, planned, held in hours
        )
        for (planned, held, holders), alike in groupby(each, key=lambda row: row[1:]):
            if planned < held:
                times = [hour for hour, *_ in alike]
                end = times[-1] + HOUR
                spans.append(
                    Conflict(pool=pool.name, start=times[0], end=end, planned=planned, held=held, holders=holders)
                )
    return tuple(spans)


def _holders(granted: list[Reservation], pool: Pool, planned: int, hour: datetime, now: datetime) -> tuple[str, ...]:
    """Return the request keys of the granted gangs that need more nodes of a pool than are planned."""
    return tuple(
        reservation.request.request_key
        for reservation in granted
        if _highest_nodes(reservation).get(pool.name, 0) > planned and _lease_end(reservation, now) > hour
    )


def _highest_nodes(reservation: Reservation) -> dict[str, int]:
    """Return how many nodes of each pool a gang needs: up to its highest, as a pool's nodes are numbered from 0.

    The nodes of a cluster have names of their own: what is held there is in the calendar alone.
    """
    highest: dict[str, int] = {}
    for place in reservation.placements:
        number = place.node.removeprefix(f"{place.pool}-")
        if number.isdecimal():
            highest[place.pool] = max(highest.get(place.pool, 0), int(number) + 1)
    return highest


def _lease_end(reservation: Reservation, now: datetime) -> datetime:
    """Return the latest end of a granted gang's lease."""
    return max(reservation.expires_at or now, (reservation.granted_at or now) + reservation.request.limit)


def held_until(reservation: Reservation, now: datetime) -> datetime:
    """Return until when a reservation may hold slots; `now` for one without slots and without a promise."""
    if reservation.state is ReservationState.GRANTED:
        return _lease_end(reservation, now)
    promised = reservation.promised and not reservation.state.final
    return reservation.eta + reservation.request.limit if promised and reservation.eta is not None else now


def _need(hourly: list[int], start: datetime, since: datetime, until: datetime, nodes: int) -> None:
    """Raise the nodes to at least that many in every hour that a span touches."""
    first = max(0, int((since - start) // HOUR))
    last = min(len(hourly), -int(-(until - start) // HOUR))
    for hour in range(first, last):
        hourly[hour] = max(hourly[hour], nodes)
