"""The lease of a gang between the steps of a run: what the steps inside must know to hold it, and the wait for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from gangplan import client
from gangplan.clock import Clock, parse_span
from gangplan.errors import InputError, WaitTimeoutError
from gangplan.reserve import Ledger
from gangplan.types import PipelineOwner, Reservation, ReservationState, require_name, require_positive
from gangplan.urls import carries_secret

LOOK_EVERY = timedelta(seconds=5)
"""How often a waiting step asks for a changed ETA or reason."""

_PART = 128
"""The most characters of a part in a key."""

PATIENCE = timedelta(minutes=1)
"""How long a step inside waits for slots that it has to ask for again."""


@dataclass(frozen=True, kw_only=True)
class Gang:
    """What a step must know to hold a gang that another step of its run has reserved; no secret is in it.

    `ledger` and `home` are empty where the step's environment names them. With a `handover_s` of 0 each renewal lasts
    for the request's whole duration. `real_nodes` tells that the cluster knows the nodes by the ledger's names.
    """

    key: str
    reservation: str
    ledger: str = ""
    home: str = ""
    handover_s: float = 0.0
    patience_s: float = PATIENCE.total_seconds()
    real_nodes: bool = False

    @property
    def ttl(self) -> timedelta | None:
        """How long each renewal lasts; None for the request's duration."""
        return timedelta(seconds=self.handover_s) if self.handover_s else None

    def text(self) -> str:
        """Return it as the value of a parameter."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def read(text: str) -> Gang:
        """Read what `text` gives, or refuse what was never given by it."""
        try:
            gang = Gang(**json.loads(text))
            return replace(gang, handover_s=float(gang.handover_s), patience_s=float(gang.patience_s))
        except (ValueError, TypeError):
            raise InputError("gang", text, "is no gang: pass the output `gang` of reserve_gang") from None


def request_key(run_id: str, name: str, part: str | float = "") -> str:
    """Return the request key of a run's gang; `part` tells apart those that a loop reserves under one name.

    A loop's number is a text on a cluster, and a float in KFP's local runner.
    """
    part = str(int(part) if isinstance(part, float) and part.is_integer() else part)
    if not run_id or "{{" in run_id or "/" in run_id:
        raise InputError("run_id", run_id, "is no run's id: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER")
    if "{{" in part:
        raise InputError("part", part, "is a placeholder that nobody has filled in: pass the loop's item itself")
    return f"kfp/{run_id}/{require_name('name', name)}" + (f"/{_short(quote(part, safe=''))}" if part else "")


def _short(part: str) -> str:
    """Return a part that a key has room for; an item of a loop may be a long text."""
    if len(part) <= _PART:
        return part
    return f"{part[: _PART - 17]}~{sha256(part.encode()).hexdigest()[:16]}"


def attempt_of(key: str) -> str:
    """Return who asks: the run, by which a controller finds what it left. Its retries are one attempt."""
    run, _, rest = key.removeprefix("kfp/").partition("/")
    return f"{PipelineOwner(run=run)}/{rest}/1"


def require_no_secret(ledger: str) -> str:
    """Return the URL of a ledger that a parameter gives, or refuse one with a password: parameters are shown."""
    if carries_secret(ledger):
        raise InputError("ledger", ledger, "has a password, and parameters are shown: give it in GANGPLAN_LEDGER")
    return ledger


def handover_of(text: str) -> timedelta | None:
    """Read for how long a gang is kept between two steps; None for the request's duration."""
    if not text:
        return None
    lasts = parse_span("handover", text)
    require_positive("handover", lasts.total_seconds())
    return lasts


def wait_for(
    book: Ledger, asked: Reservation, until: datetime, clock: Clock, note: Callable[[str], None]
) -> Reservation:
    """Wait until a reservation no longer waits or the time is over; note state, ETA and reason when they change."""
    last = ""
    while True:
        if (line := standing(asked, until, _expected(book, asked))) != last:
            last = line
            note(line)
        left = until - clock()
        if not asked.state.waits or left <= timedelta(0):
            return asked
        try:
            asked = book.wait(asked.id, timeout=min(left, LOOK_EVERY))
        except WaitTimeoutError:
            asked = book.get(asked.id)


def _expected(book: Ledger, asked: Reservation) -> datetime | None:
    """Return the ETA; without one, because the step's time is over before, when the request would start."""
    if asked.state is not ReservationState.WAITING or asked.eta is not None:
        return asked.eta
    patient = replace(asked.request, request_key=f"{asked.request.request_key}?", latest_start=None, deadline=None)
    return book.what_if(patient)[0]


def standing(reservation: Reservation, until: datetime, expected: datetime | None = None) -> str:
    """Return one line about a reservation: on which nodes and until when it is granted, or until when and why it waits.

    `until` is when the step stops waiting.
    """
    if reservation.state is ReservationState.GRANTED:
        return f"granted: {client.places_text(reservation)}, until {client.time_text(reservation.expires_at)}"
    if not reservation.state.waits:
        return reservation.state.value
    late = "" if expected is None or expected <= until else ", after this step's patience ends"
    eta = client.eta_text(reservation, expected=expected)
    return client.wait_text(reservation, f"{eta}{late}", name_slots=False)
