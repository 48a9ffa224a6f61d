"""Notice to those whose nodes will go: drained now, drained from a planned moment on, or no longer in the calendar.

No renewal passes the moment from which a node is gone. The holder is told of it in time to save its work: the policy's
`drain` before, or its own `checkpoint`, whichever is longer. Told days before, it would stop days before.
"""

from __future__ import annotations

from gangplan.clock import span_us
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry
from gangplan.types import NodeState, ReservationState


def tell_leaving(book: Book, entry: Entry, now: int, *, spared: bool = False) -> None:
    """Give a holder the notice that its nodes' marks and the calendar call for now, another one, or none.

    One that has to leave for another gang keeps that notice, unless it is `spared`.
    """
    leave, goes = entry.leave, _goes(book, entry, now)
    if leave is not None and leave.state is not ReservationState.INTERRUPTED and not spared:
        return
    if goes is None:
        book.take_notice_back(entry)
        return
    until, why = goes
    if leave is not None and (until == leave.until or (until > leave.until and not _may_stay(book, entry, until))):
        return
    checkpoint = entry.request.checkpoint
    lead = max(span_us(book.policy.drain), 0 if checkpoint is None else span_us(checkpoint))
    since = until - lead if until - lead > now else 0
    book.give_notice(entry, until, why=why, state=ReservationState.INTERRUPTED, since=since)


def _goes(book: Book, entry: Entry, now: int) -> tuple[int, str] | None:
    """Return when the first of a holder's nodes goes before its walltime is over, and why."""
    board, leave = book.occupancy.boards.get(entry.pool or ""), entry.leave
    if board is None or entry.hard_end is None:
        return None
    ends = entry.hard_end if leave is None else leave.hard_end
    at_once = now + span_us(book.policy.drain)
    at_once = at_once if leave is None else min(at_once, leave.until)  # notice that was given is not made longer
    goes: list[tuple[int, str]] = []
    for place in entry.placements:
        mark = book.nodes.get(place.node)
        if mark is not None and mark.state is NodeState.DRAINING and mark.begin < ends:
            words = f"node {place.node} {'will be drained' if mark.begin else 'is draining'}"
            goes.append((mark.begin or at_once, words))
    number = max((slot.node for slot in entry.slots), default=-1)
    lacks = board.steps.first_below(number + 1, now)
    if lacks < ends:
        goes.append((max(lacks, at_once), f"the calendar has no node {entry.pool}-{number} from then on"))
    return min(goes, default=None)


def _may_stay(book: Book, entry: Entry, until: int) -> bool:
    """Tell whether nobody was promised a holder's slots for the time up to a later end."""
    leave, board = entry.leave, book.occupancy.boards.get(entry.pool or "")
    if leave is None or board is None or entry.hard_end is None:
        return False
    end = min(leave.hard_end, until)
    return end <= entry.hard_end or book.occupancy.is_free(entry, board, entry.slots, entry.hard_end, end)
