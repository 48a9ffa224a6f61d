"""Reserve and give back for a step of a pipeline that may run twice.

A step that is retried while its reservation is alive gets the same one. A step that runs again after its reservation
ended gets a new one, under the key#2, then #3 and so on. A step whose nodes were lost waits for slots in their place.

A step that says which attempt it is takes over what an earlier one has; the earlier one then ends nothing any more.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from gangplan.config import load_settings
from gangplan.errors import KeyConflictError, NotFoundError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.types import (
    GangRequest,
    Reservation,
    ReservationState,
    is_owned,
    owner_of,
    request_from as request_from,
)

ABANDONED_AFTER = timedelta(minutes=1)
"""The ledger expires a request that still waits so long after its step's patience has ended: the step must be dead."""

_log = logging.getLogger(__name__)


def lives(ledger: Ledger, request_key: str) -> list[Reservation]:
    """Return all reservations of a step's key, the oldest first."""
    reservations: list[Reservation] = []
    while True:
        try:
            reservations.append(ledger.find(_key(request_key, len(reservations))))
        except NotFoundError:
            return reservations


def submit(ledger: Ledger, request: GangRequest, until: datetime, attempt: str = "") -> Reservation:
    """Submit a step's request, to start by `until`; return what the step already waits for or holds, if there is one.

    A reservation that waits for slots in place of lost ones is returned as it is; give its grant to `claim`.

    Parameters
    ----------
    attempt
        Who asks, as `Ledger.submit` takes it. A grant must then be claimed within the setting `claim_within_s` where
        the request does not say otherwise, and a request that was changed since the last attempt replaces that one's.
        By default the setting `owner` says whose it is, and nothing else.

    Raises
    ------
    KeyConflictError
        Another owner has a live request of this key or, without an attempt, the live one of this key is another.
    """
    before = lives(ledger, request.request_key)  # each as it stands now: a lease that ran out has ended
    if before and not before[-1].state.final:
        first = before[-1]
        try:
            return _again(ledger, request, first.request, attempt)
        except KeyConflictError:
            if not attempt or owner_of(first.attempt) != owner_of(attempt):
                raise
        _withdraw(ledger, first)
        return submit(ledger, request, until, attempt)
    latest = request.latest_start or (until + ABANDONED_AFTER).replace(microsecond=0)
    within = request.claim_within or (load_settings().claim_within if attempt else None)
    key = _key(request.request_key, len(before))
    asked = replace(request, request_key=key, latest_start=latest, claim_within=within)
    return ledger.submit(asked, attempt or load_settings().attempt)


def ask_again(ledger: Ledger, request_key: str, until: datetime, claim_within: timedelta | None = None) -> Reservation:
    """Return what a step's key waits for or holds; where that has ended, ask for the same again, to start by `until`.

    For a step that works on slots which another step has reserved: they may have gone back before it began.

    Parameters
    ----------
    claim_within
        In which time a new grant must be claimed; by default as the request says.

    Raises
    ------
    NotFoundError
        Nothing was ever reserved under the key.
    """
    while True:
        before = lives(ledger, request_key)
        if not before:
            raise NotFoundError(f"request_key: nothing was reserved under {request_key!r}: reserve it first")
        last = before[-1]
        if not last.state.final:
            return last
        within = claim_within or last.request.claim_within
        request = replace(last.request, request_key=request_key, latest_start=None, claim_within=within)
        try:
            return submit(ledger, request, until, last.attempt)
        except KeyConflictError:
            if len(lives(ledger, request_key)) == len(before):  # else another part of the run was faster
                raise


def _again(ledger: Ledger, request: GangRequest, first: GangRequest, attempt: str) -> Reservation:
    """Submit again what is alive; what the request does not say is as it was said first."""
    same = replace(
        request,
        request_key=first.request_key,
        latest_start=request.latest_start or first.latest_start,
        claim_within=request.claim_within or first.claim_within,
    )
    found = ledger.submit(same, attempt)
    return claim(ledger, found) if found.interruptions else found


def _withdraw(ledger: Ledger, old: Reservation) -> None:
    """End a request that is no longer what its step asks for, and say so; the attempt may have lost it meanwhile."""
    what = "waited, and its place in line is lost" if old.token is None else "held slots, which were given back"
    if _end_own(ledger, old) is not None:
        _log.warning("the request of %s was changed: the one before %s; a new one is submitted", old.attempt, what)


def patience(reservation: Reservation, until: datetime) -> datetime:
    """Return until when a step waits: as long as its request does, or until `until` in place of lost slots."""
    latest = reservation.request.latest_start
    return until if latest is None or reservation.interruptions else min(until, latest)


def claim(ledger: Ledger, reservation: Reservation, ttl: timedelta | None = None) -> Reservation:
    """Claim a grant that goes back if nobody does: its lease counts from now; with `ttl` it ends so long from now.

    Any other reservation is returned as it is, and so is one that has just ended, lost its nodes or been taken over.
    """
    granted = reservation.state is ReservationState.GRANTED
    if not granted or reservation.token is None or (reservation.claim_by is None and ttl is None):
        return reservation
    try:
        return ledger.renew(reservation.id, reservation.token, ttl)
    except StaleTokenError:
        return ledger.get(reservation.id)


def end(ledger: Ledger, reservation: Reservation) -> Reservation:
    """Release a reservation that holds slots, cancel one that waits; one that has ended stays as it is."""
    if reservation.state.final:
        return reservation
    if reservation.token is None:
        return ledger.cancel(reservation.id)
    return ledger.release(reservation.id, reservation.token)


def give_back(ledger: Ledger, request_key: str, attempt: str | None = None) -> list[Reservation]:
    """End all reservations of a step's key and return those that were ended; a second call changes nothing.

    With an attempt, what another one has taken over stays.
    """
    live = [reservation for reservation in lives(ledger, request_key) if not reservation.state.final]
    if attempt is None:
        return [end(ledger, reservation) for reservation in live]
    ended = [_end_own(ledger, reservation) for reservation in live if reservation.attempt == attempt]
    return [reservation for reservation in ended if reservation is not None]


def give_back_owned(ledger: Ledger, prefix: str) -> list[Reservation]:
    """End all live reservations of an owner, and of those below it, and return those that were ended.

    Parameters
    ----------
    prefix
        The beginning of the attempts' path, as far as it goes: `airflow/<dag>/<run>` for all of a DAG run.
    """
    live = [state for state in ReservationState if not state.final]
    found = [reservation for state in live for reservation in ledger.list(state, prefix)]
    ended = [_end_owned(ledger, reservation, prefix) for reservation in {one.id: one for one in found}.values()]
    return [reservation for reservation in ended if reservation is not None]


def _end_owned(ledger: Ledger, reservation: Reservation, prefix: str) -> Reservation | None:
    """End a reservation of an owner, whichever attempt has it by now; None when it is another's, or has ended."""
    while not reservation.state.final and is_owned(reservation.attempt, prefix):
        if ended := _end_own(ledger, reservation):
            return ended
        reservation = ledger.get(reservation.id)
    return None


def _end_own(ledger: Ledger, reservation: Reservation) -> Reservation | None:
    """End a reservation if its attempt still has it; None when it has not."""
    try:
        if reservation.token is None:
            return ledger.cancel(reservation.id, reservation.attempt)
        return ledger.release(reservation.id, reservation.token)
    except StaleTokenError:
        return None


def _key(request_key: str, ended: int) -> str:
    """Return the key of a step's next reservation after so many have ended."""
    return request_key if ended == 0 else f"{request_key}#{ended + 1}"
