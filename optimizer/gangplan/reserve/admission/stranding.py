"""Whom a calendar would strand: gangs on nodes that it has no more, accepted windows that it cannot keep.

Looked at inside the transaction that publishes it, so that a grant made a moment before is seen.
"""

from __future__ import annotations

from gangplan.errors import StrandedError
from gangplan.reserve.admission.book import Book, check_calendar, steps_of
from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.admission.scheduler import admit
from gangplan.types import CapacityCalendar, ReservationId, ReservationState


def check_kept(book: Book, calendar: CapacityCalendar, now: int) -> None:
    """Refuse a calendar that would strand a granted gang or an accepted window; the book stays as it is.

    A window may come to other nodes or an earlier start, never to a later one. What is stranded already does not count.
    """
    check_calendar(calendar)
    stranded = [_gang(entry, calendar, now) for entry in book.live.values() if _stands(entry, book, now)]
    stranded += _windows(book, calendar, now)
    names = sorted(name for name in stranded if name)
    if names:
        raise StrandedError(
            f"publish: plan {calendar.plan_id} would take nodes from {', '.join(names)}: nothing was changed; publish "
            "it again, or plan again, around what is reserved now"
        )


def _stands(entry: Entry, book: Book, now: int) -> bool:
    """Whether a gang holds slots that the calendar in force has until its walltime is over."""
    if entry.state is not ReservationState.GRANTED or entry.pool not in book.boards or entry.hard_end is None:
        return False
    return book.boards[entry.pool].steps.least(now, entry.hard_end) >= _nodes(entry)


def _nodes(entry: Entry) -> int:
    """How many nodes its pool must have: those of a calendar of n nodes are numbered 0 to n - 1."""
    return max((slot.node for slot in entry.slots), default=-1) + 1


def _gang(entry: Entry, calendar: CapacityCalendar, now: int) -> str:
    """Name a gang that would lose nodes; nothing if it would not."""
    assert entry.pool is not None  # noqa: S101 - it stands on one
    assert entry.hard_end is not None  # noqa: S101 - it is granted
    pools = {pool.name for pool in calendar.pools}
    least = steps_of(calendar, entry.pool).least(now, entry.hard_end) if entry.pool in pools else 0
    return "" if least >= _nodes(entry) else f"{entry.request.request_key} (on {entry.pool})"


def _windows(book: Book, calendar: CapacityCalendar, now: int) -> list[str]:
    """Name the accepted windows that would start later, or never: admission is tried on a copy."""
    firm: dict[ReservationId, int] = {
        id: one.plan.start for id, one in book.planned.items() if one.plan and one.plan.firm
    }
    if not firm:
        return []
    trial = book.copy()
    trial.publish(calendar)
    admit(trial, now)
    return [
        f"{book.live[id].request.request_key} (window)"
        for id, start in firm.items()
        if not _in_time(trial.live.get(id), start)
    ]


def _in_time(entry: Entry | None, start: int) -> bool:
    """Whether a window still starts as early as it was promised."""
    if entry is None:
        return False
    return entry.state is ReservationState.GRANTED or (entry.plan is not None and entry.plan.start <= start)
