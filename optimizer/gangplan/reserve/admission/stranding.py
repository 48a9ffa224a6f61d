"""What a calendar would strand: gangs on nodes that it no longer has, accepted windows that it cannot keep.

This is checked inside the transaction that publishes the calendar, so that it sees a grant made a moment before.
"""

from __future__ import annotations

from collections.abc import Iterator

from gangplan.errors import StrandedError
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.scheduler import admit
from gangplan.reserve.space import check_calendar, steps_of
from gangplan.types import CapacityCalendar, ReservationState


def check_kept(book: Book, calendar: CapacityCalendar, now: int) -> None:
    """Refuse a calendar that would strand a granted gang or an accepted window; the book stays as it is.

    A window may come to other nodes or an earlier start, never to a later one. What is stranded already does not count.
    """
    check_calendar(calendar)
    names = sorted([*_gangs(book, calendar, now), *_windows(book, calendar, now)])
    if names:
        raise StrandedError(
            f"publish: plan {calendar.plan_id} would take nodes from {', '.join(names)}: nothing was changed; publish "
            "it again, or plan again, around what is reserved now"
        )


def _gangs(book: Book, calendar: CapacityCalendar, now: int) -> Iterator[str]:
    """Name the gangs whose nodes the calendar in force has until their walltime is over, and the new one has not.

    The nodes of a calendar with n nodes are numbered 0 to n - 1.
    """
    planned = {pool.name: steps_of(calendar, pool.name) for pool in calendar.pools}
    for entry in book.granted():
        board, steps = book.occupancy.boards.get(entry.pool or ""), planned.get(entry.pool or "")
        needed = max((slot.node for slot in entry.slots), default=-1) + 1
        if board is None or entry.hard_end is None or board.steps.least(now, entry.hard_end) < needed:
            continue
        if steps is None or steps.least(now, entry.hard_end) < needed:
            yield f"{entry.request.request_key} (on {entry.pool})"


def _windows(book: Book, calendar: CapacityCalendar, now: int) -> Iterator[str]:
    """Name the accepted windows that would start later or never, by an admission on a copy of the book."""
    starts = [(entry, entry.promise.start) for entry in book.promised.values() if entry.promise and entry.promise.firm]
    if not starts:
        return
    trial = book.copy()
    trial.publish(calendar)
    admit(trial, now)
    for entry, start in starts:
        after = trial.live.get(entry.id)
        granted = after is not None and after.state is ReservationState.GRANTED
        promise = None if after is None else after.promise
        if not granted and (promise is None or promise.start > start):
            yield f"{entry.request.request_key} (window)"
