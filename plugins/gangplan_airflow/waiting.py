"""What the operators and the trigger do with the ledger: submit again safely, give back, say why it waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from gangplan.errors import NotFoundError
from gangplan.reserve import Ledger
from gangplan.types import GangRequest, Reservation, ReservationState

ABANDONED_AFTER = timedelta(minutes=1)
"""A request that outlives its task's patience by this much was left by a task that died: the ledger expires it."""


def submit(ledger: Ledger, request: GangRequest, until: datetime) -> Reservation:
    """Submit a task's request, to start by `until`: what it already waits for or holds, or else a new reservation.

    A task may run again: retried by Airflow while its reservation lives (the same one is returned), or cleared by a
    user after it ended (then key#2, key#3 and so on stand for its later lives).
    """
    latest = request.latest_start or until + ABANDONED_AFTER
    for key in _keys(request.request_key):
        try:
            present = ledger.find(key)
        except NotFoundError:
            return ledger.submit(replace(request, request_key=key, latest_start=latest))
        if not present.state.final:
            latest = request.latest_start or present.request.latest_start
            return ledger.submit(replace(request, request_key=key, latest_start=latest))
    raise AssertionError("the keys never end")


def give_back(ledger: Ledger, request_key: str) -> list[Reservation]:
    """Cancel or release all that a task's key holds; done twice, it changes nothing more."""
    ended: list[Reservation] = []
    for key in _keys(request_key):
        try:
            present = ledger.find(key)
        except NotFoundError:
            return ended
        if present.state is ReservationState.GRANTED and present.token is not None:
            ended.append(ledger.release(present.id, present.token))
        elif not present.state.final:
            ended.append(ledger.cancel(present.id))
    return ended


def words(reservation: Reservation, now: datetime) -> str:
    """Say in one line what is waited for, until when, and why."""
    request = reservation.request
    gang = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
    line = f"waiting for {gang} of {' or '.join(request.accelerators)}; {eta(reservation.eta, now)}"
    if (reason := reservation.reason) is None:
        return line
    return "; ".join([f"{line}; {reason.message}", *reason.helps])


def eta(at: datetime | None, now: datetime) -> str:
    """Say when the slots are expected."""
    if at is None:
        return "no ETA yet"
    return f"ETA {at:%Y-%m-%d %H:%M:%S} UTC (in {max(0, round((at - now).total_seconds()))} s)"


def slots(reservation: Reservation, because: str | None) -> dict[str, Any]:
    """Give a granted reservation as a task's XCom: plain values, no secret (the token only tells old holders apart)."""
    waited, first_eta, expires_at = reservation.waited, reservation.first_eta, reservation.expires_at
    return {
        "id": reservation.id,
        "token": reservation.token,
        "key": reservation.request.request_key,
        "gpus": reservation.request.gpus,
        "placements": [vars(placement) for placement in reservation.placements],
        "nodes": sorted({placement.node for placement in reservation.placements}),
        "expires_at": expires_at.isoformat() if expires_at else None,
        "waited_s": round(waited.total_seconds(), 1) if waited else 0.0,
        "first_eta": first_eta.isoformat() if first_eta else None,
        "waited_because": because,
    }


def _keys(request_key: str) -> Iterator[str]:
    """Yield the keys of a task's lives."""
    yield request_key
    for life in count(2):
        yield f"{request_key}#{life}"
