"""The calls that change a book, one function each; the same for every store. All refuse before they change anything.

`dispatch` finds them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gangplan.errors import GangplanError, InputError, KeyConflictError, NotFoundError, StaleTokenError
from gangplan.reserve.admission import Book, Entry
from gangplan.reserve.codec import id_of
from gangplan.reserve.moments import from_us, span_us, to_us
from gangplan.types import (
    GangRequest,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    require_positive,
    require_type,
)

Lookup = Callable[[ReservationId], Entry | None]
"""Finds a reservation that may be final, and so no longer in the book."""


@dataclass(frozen=True, slots=True)
class Command:
    """One call that changes a book, as data, so that another process may run it: `args` go into JSON as they are."""

    name: str
    id: ReservationId | None = None
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    request: GangRequest | None = None  # what a submit's body says, where it need not be read again


Answer = Reservation | GangplanError | None
"""The reservation as it stands after admission, or the refusal."""


def submit(book: Book, lookup: Lookup, request: GangRequest, body: str, now: int) -> Entry:
    """Let a request wait, or answer with the row that its key has already."""
    id = id_of(request.request_key)
    known = lookup(id)
    if known is not None:
        if known.body != body:
            raise KeyConflictError(
                f"request_key: {request.request_key!r} was used with another body: give a new request its own key"
            )
        return known
    fresh = Entry(id=id, request=request, body=body, arrival=0, submitted=now)
    if fresh.latest is not None and fresh.latest < now:
        window, deadline = request.latest_start, request.deadline
        if deadline is not None and (window is None or to_us(window) > fresh.latest):
            raise InputError("deadline", deadline.isoformat(), "cannot be met any more: give a later one, or none")
        raise InputError("latest_start", from_us(fresh.latest).isoformat(), "is past: give a later one, or none")
    book.check_servable(request, fresh)
    return book.enter(request, id=id, body=body, now=now)


def renew(book: Book, lookup: Lookup, id: ReservationId, token: Token, ttl: timedelta | None, now: int) -> Entry:
    """Move a lease's end to `ttl` from now, never past the hard walltime."""
    if ttl is not None:
        require_type("ttl", ttl, timedelta, "a timedelta")
        require_positive("ttl", ttl.total_seconds())
    entry = holding(lookup, id, token)
    if entry.state is not ReservationState.GRANTED or entry.hard_end is None:
        raise StaleTokenError(f"token: {token} of {id} ended ({entry.state}): its lease cannot be renewed")
    until = now + (entry.duration if ttl is None else span_us(ttl))
    entry.expires = min(entry.hard_end, until)
    if entry.leave is not None:  # should the notice be taken back
        entry.leave.expires = min(entry.leave.hard_end, until)
    book.touch(entry)
    return entry


def release(book: Book, lookup: Lookup, id: ReservationId, token: Token, now: int) -> Entry:
    """Give the slots back; what ended already stays as it ended."""
    entry = holding(lookup, id, token)
    if entry.state is ReservationState.GRANTED:
        book.end(entry, ReservationState.RELEASED, now)
    return entry


def cancel(book: Book, lookup: Lookup, id: ReservationId, now: int) -> Entry:
    """End what waits or holds slots; what ended already stays as it ended."""
    entry = found(lookup, id)
    if not entry.state.final:
        book.end(entry, ReservationState.CANCELLED, now)
    return entry


def found(lookup: Lookup, id: ReservationId) -> Entry:
    """Return a reservation or say that there is none."""
    entry = lookup(id)
    if entry is None:
        raise NotFoundError(f"id: there is no reservation {id!r}: list them with `gangplan status`")
    return entry


def holding(lookup: Lookup, id: ReservationId, token: Token) -> Entry:
    """Return the reservation if the token is its present one."""
    entry = found(lookup, id)
    if entry.token is None or entry.token != token:
        present = "it holds no slots" if entry.token is None else "another token holds its slots"
        raise StaleTokenError(f"token: {token} is not the one of {id}: {present}; nothing was changed")
    return entry
