"""Reserve and give back for a step of a pipeline that may run twice.

A step that is retried while its reservation is alive gets the same one. A step that runs again after its reservation
ended gets a new one, under the key#2, then #3 and so on. A step whose nodes were lost waits for slots in their place.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from gangplan.errors import NotFoundError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.types import GangRequest, Reservation, ReservationState, request_from as request_from

ABANDONED_AFTER = timedelta(minutes=1)
"""The ledger expires a request that still waits so long after its step's patience has ended: the step must be dead."""


def lives(ledger: Ledger, request_key: str) -> list[Reservation]:
    """Return all reservations of a step's key, the oldest first."""
    reservations: list[Reservation] = []
    while True:
        try:
            reservations.append(ledger.find(_key(request_key, len(reservations))))
        except NotFoundError:
            return reservations


def submit(ledger: Ledger, request: GangRequest, until: datetime) -> Reservation:
    """Submit a step's request, to start by `until`; return what the step already waits for or holds, if there is one.

    A reservation that waits for slots in place of lost ones is returned as it is; give its grant to `take_up`.
    """
    ledger.tick()  # a lease that ran out since the last write counts as ended
    before = lives(ledger, request.request_key)
    if before and not before[-1].state.final:
        first = before[-1].request
        latest = request.latest_start or first.latest_start
        return take_up(ledger, ledger.submit(replace(request, request_key=first.request_key, latest_start=latest)))
    latest = request.latest_start or (until + ABANDONED_AFTER).replace(microsecond=0)
    return ledger.submit(replace(request, request_key=_key(request.request_key, len(before)), latest_start=latest))


def patience(reservation: Reservation, until: datetime) -> datetime:
    """Return until when a step waits: as long as its request does, or until `until` in place of lost slots."""
    latest = reservation.request.latest_start
    return until if latest is None or reservation.interruptions else min(until, latest)


def take_up(ledger: Ledger, reservation: Reservation) -> Reservation:
    """Renew at once what was granted in place of lost slots, because the ledger keeps it for a short time only.

    Any other reservation is returned as it is, and so is one that has just ended or lost its nodes again.
    """
    granted = reservation.state is ReservationState.GRANTED
    if not granted or reservation.token is None or not reservation.interruptions:
        return reservation
    try:
        return ledger.renew(reservation.id, reservation.token)
    except StaleTokenError:
        return ledger.get(reservation.id)


def end(ledger: Ledger, reservation: Reservation) -> Reservation:
    """Release a reservation that holds slots, cancel one that waits; one that has ended stays as it is."""
    if reservation.state.final:
        return reservation
    if reservation.token is None:
        return ledger.cancel(reservation.id)
    return ledger.release(reservation.id, reservation.token)


def give_back(ledger: Ledger, request_key: str) -> list[Reservation]:
    """End all reservations of a step's key and return those that were ended; a second call changes nothing."""
    return [end(ledger, reservation) for reservation in lives(ledger, request_key) if not reservation.state.final]


def _key(request_key: str, ended: int) -> str:
    """Return the key of a step's next reservation after so many have ended."""
    return request_key if ended == 0 else f"{request_key}#{ended + 1}"
