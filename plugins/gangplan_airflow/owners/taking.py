"""How an attempt takes up what it was granted, and asks again for slots that went back before anybody took them up."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from gangplan import client
from gangplan.clock import Clock
from gangplan.errors import StaleTokenError
from gangplan.types import Reservation, ReservationId, ReservationState

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

RAN_OUT = (ReservationState.EXPIRED, ReservationState.PREEMPTED)

_log = logging.getLogger(__name__)


def take(ledger: Ledger, attempt: str, request_key: str, id: ReservationId, clock: Clock) -> Reservation:
    """Claim what was granted to an attempt; ask again if it was granted and went back unclaimed. Return what stands.

    Raises `StaleTokenError` when another try of the task has taken the reservation over: nothing was changed.
    """
    seen = client.claim(ledger, ledger.get(id))
    if seen.attempt != attempt:
        raise StaleTokenError(f"reservation {id}: another try of the task has it by now ({seen.attempt or 'unnamed'})")
    if not went_back(seen) or _too_late(seen, clock()):
        return seen
    _log.warning("reservation %s was granted, but nobody claimed it in time: its slots went back; asking again", id)
    again = replace(seen.request, request_key=request_key)
    return client.claim(ledger, client.submit(ledger, again, clock(), attempt))


def went_back(seen: Reservation) -> bool:
    """Tell whether slots were granted and went back because nobody claimed them in time."""
    return seen.state in RAN_OUT and seen.claim_by is not None


def _too_late(seen: Reservation, now: datetime) -> bool:
    """Tell whether the request's window is over."""
    latest = seen.request.latest_start
    return latest is not None and now >= latest
