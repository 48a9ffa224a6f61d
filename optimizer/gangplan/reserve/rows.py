"""Reservations as rows of a table: what the SQL ledgers keep, what the audit log says, and what a leader answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gangplan.reserve import codec
from gangplan.reserve.admission import Entry
from gangplan.types import ReservationId, ReservationState, Token

Row = dict[str, Any]
"""A reservation's columns, but for the number of its last change."""

COLUMNS = (
    *("id", "request_key", "tenant", "body", "arrival", "submitted", "state", "token", "pool", "slots", "granted"),
    *("hard_end", "expires", "ended", "first_eta", "plan", "reason", "more"),
)


def changes(before: tuple[Any, ...] | None, after: Row) -> Row:
    """Return the columns that differ from those before; all, where there were none."""
    if before is None:
        return after
    return {name: value for old, (name, value) in zip(before, after.items(), strict=True) if old != value}


def row_of(entry: Entry) -> Row:
    """Return an entry as its row."""
    return {
        "id": entry.id,
        "request_key": entry.request.request_key,
        "tenant": entry.request.tenant,
        "body": entry.body,
        "arrival": entry.arrival,
        "submitted": entry.submitted,
        "state": entry.state.value,
        "token": entry.token,
        "pool": entry.pool,
        "slots": codec.slots_text(entry.slots),
        "granted": entry.granted,
        "hard_end": entry.hard_end,
        "expires": entry.expires,
        "ended": entry.ended,
        "first_eta": entry.first_eta,
        "plan": codec.plan_text(entry.promise),
        "reason": codec.reason_text(entry.reason),
        "more": codec.more_text(entry),
    }


def entry_of(row: Mapping[Any, Any]) -> Entry:
    """Return a row as an entry."""
    entry = Entry(
        id=ReservationId(row["id"]),
        request=codec.request_from_text(row["body"]),
        body=row["body"],
        arrival=row["arrival"],
        submitted=row["submitted"],
        state=ReservationState(row["state"]),
        token=None if row["token"] is None else Token(row["token"]),
        pool=row["pool"],
        slots=codec.slots_from(row["slots"]),
        granted=row["granted"],
        hard_end=row["hard_end"],
        expires=row["expires"],
        ended=row["ended"],
        first_eta=row["first_eta"],
        promise=codec.plan_from(row["plan"]),
        reason=codec.reason_from(row["reason"]),
        stored=True,
    )
    codec.take_more(entry, row["more"])
    return entry
