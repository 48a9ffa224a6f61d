"""What a pipeline's step does with a ledger, whatever runs the step: submit again safely, give all of it back.

A step may run twice: retried while its reservation lives (it gets the same one), or run anew after that ended (then
key#2, key#3 and so on stand for its later lives). One whose nodes went away meanwhile waits for slots in their place.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from gangplan.errors import NotFoundError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.types import GangRequest, Reservation, ReservationState, request_from as request_from

ABANDONED_AFTER = timedelta(minutes=1)
"""A request that outlives its step's patience by this much was left by a step that died: the ledger expires it."""


def lives(ledger: Ledger, request_key: str) -> list[Reservation]:
    """Return all reservations of a step's key, the first first."""
    found: list[Reservation] = []
    while True:
        try:
            found.append(ledger.find(_life(request_key, len(found))))
        except NotFoundError:
            return found


def submit(ledger: Ledger, request: GangRequest, until: datetime) -> Reservation:
    """Submit a step's request, to start by `until`: what it already waits for or holds, or else a new reservation.

    One that waits for slots in place of lost ones is returned as it waits; give its grant to `take_up`.
    """
    ledger.tick()  # a lease that ran out since the last write counts as ended
    before = lives(ledger, request.request_key)
    if before and not before[-1].state.final:
        first = before[-1].request
        latest = request.latest_start or first.latest_start
        return take_up(ledger, ledger.submit(replace(request, request_key=first.request_key, latest_start=latest)))
    latest = request.latest_start or (until + ABANDONED_AFTER).replace(microsecond=0)
    return ledger.submit(replace(request, request_key=_life(request.request_key, len(before)), latest_start=latest))


def patience(asked: Reservation, until: datetime) -> datetime:
    """Return until when a step waits: no longer than its request does, unless it waits for lost slots' replacement."""
    latest = asked.request.latest_start
    return until if latest is None or asked.interruptions else min(until, latest)


def take_up(ledger: Ledger, found: Reservation) -> Reservation:
    """Renew at once what was granted in place of lost slots: until its holder renews it, it is kept for a while only.

    Everything else is returned as it is, and so is one that ended, or lost its nodes again, in this moment.
    """
    if found.state is not ReservationState.GRANTED or found.token is None or not found.interruptions:
        return found
    try:
        return ledger.renew(found.id, found.token)
    except StaleTokenError:
        return ledger.get(found.id)


def end(ledger: Ledger, found: Reservation) -> Reservation:
    """Release what is held, take what waits out of the line; what has ended stays as it is."""
    if found.state.final:
        return found
    return ledger.cancel(found.id) if found.token is None else ledger.release(found.id, found.token)


def give_back(ledger: Ledger, request_key: str) -> list[Reservation]:
    """End all that a step's key holds and return what was ended; done twice, it changes nothing more."""
    return [end(ledger, life) for life in lives(ledger, request_key) if not life.state.final]


def _life(request_key: str, ended: int) -> str:
    """Return the key to ask with after so many reservations have ended."""
    return request_key if ended == 0 else f"{request_key}#{ended + 1}"
