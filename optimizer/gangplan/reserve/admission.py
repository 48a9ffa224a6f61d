"""Who gets slots, and when: a pure function of a book and a time.

    expire leases -> draw plans together -> in the line's order: grant now, or promise the earliest start -> preempt

A promise (conservative backfill) stands on exact slots of the board, so that whoever comes later and ranks lower fits
around it. A higher rank displaces lower promises, except accepted windows.

Source: Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM
SP2 with Backfilling", IEEE TPDS 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gangplan.reserve.book import Book
from gangplan.reserve.entry import Entry, Rank
from gangplan.reserve.line import Line, Walk
from gangplan.reserve.moments import FOREVER
from gangplan.reserve.placing import LATE_US, draw_together, find_place, is_firm, keep_promise
from gangplan.reserve.preemption import Preemptor, settle
from gangplan.reserve.reasons import explain, far_back
from gangplan.types import ReservationState

ROUNDS = 8
"""What a displaced promise leaves is offered again so often at most in one admission; the next goes on."""


def admit(book: Book, now: int) -> None:
    """Expire what is over, then grant or promise slots in the line's order.

    Where nothing became free, only the new and those who lost a promise need to be looked at. What a displaced promise
    leaves is offered again.
    """
    expire(book, now)
    settle(book)  # before others are promised the slots of those who may stay
    for _ in range(ROUNDS):
        if book.freed:
            book.freed = False
            draw_together(book, now)
            _serve_line(book, book.line, now)
        if book.unserved:
            _serve_line(book, _line_of_unserved(book), now)
        if not book.freed and not book.unserved:
            break
    settle(book)


def expire(book: Book, now: int) -> None:
    """End the leases that ran out and the requests whose last start has passed; mark the others that are due."""
    while (entry := book.pop_due(now)) is not None:
        if entry.expires is not None and entry.expires <= now:
            _end_lease(book, entry, entry.expires)
        elif _missed(entry, now):
            book.end(entry, ReservationState.EXPIRED, now)
        else:
            entry.retry = None
            book.unserved.add(entry.id)


def _end_lease(book: Book, entry: Entry, at: int) -> None:
    """End a lease that ran out, or whose holder had to leave by now."""
    leave = entry.leave
    if leave is None or at < leave.until or leave.expires <= leave.until:
        book.end(entry, ReservationState.EXPIRED, at)
    elif leave.state is ReservationState.INTERRUPTED:
        book.interrupt(entry)
    else:
        book.end(entry, leave.state, at)


def _missed(entry: Entry, now: int) -> bool:
    """Tell whether a request can no longer start in its window; a promise in it is kept though the tick is late."""
    if entry.latest is None or entry.latest >= now:
        return False
    return entry.plan is None or now - entry.plan.start > LATE_US


class Tried:
    """What one pass has found out: how many have promises, who has the last one, and which wishes do not fit now."""

    def __init__(self, book: Book) -> None:
        self.lined = sorted(entry.rank for entry in book.planned.values() if not is_firm(entry))
        self.failed: dict[int, int] = {}  # by kind: the shortest walltime that did not fit
        self.preemptor = Preemptor(book)

    @property
    def last(self) -> Rank:
        """The last rank with a promise that may be displaced."""
        return self.lined[-1] if self.lined else (-FOREVER, 0.0, 0)

    def fails(self, entry: Entry) -> bool:
        """Tell whether a gang of this shape, for as long or less, was found not to fit now."""
        return entry.limit >= self.failed.get(entry.kind, FOREVER)

    def note(self, book: Book, entry: Entry, now: int) -> None:
        """Note that it does not fit now, if it is for want of slots; what is free only shrinks while a pass goes on."""
        if entry.state.waits and entry.earliest <= now and _quota_now(book, entry, now, all):
            self.failed[entry.kind] = min(entry.limit, self.failed.get(entry.kind, FOREVER))


def _line_of_unserved(book: Book) -> Line:
    """Return a line of those that are to be served again, among those with promises, beside which they rank."""
    line = Line()
    for id in book.unserved:
        line.add(book.live[id])
    for entry in book.planned.values():
        if entry.id not in book.unserved and not is_firm(entry):
            line.add(entry)
    return line


def _serve_line(book: Book, line: Line, now: int) -> None:
    """Serve all that wait in a line; most of a long one is passed over, as not fitting by its kind or quota."""
    tried = Tried(book)
    walk = book.walk(line)
    for entry in walk:
        plan = entry.plan
        if plan is not None and plan.start > now:
            tried.preemptor.help(entry, now)
            book.unserved.discard(entry.id)
        else:
            _serve(book, entry, now, tried, walk)


def _serve(book: Book, entry: Entry, now: int, tried: Tried, walk: Walk) -> None:
    """Grant one request, or promise it a start, or say why it waits."""
    book.unserved.discard(entry.id)
    if entry.plan is not None and keep_promise(book, entry, entry.plan, now):
        return
    depth = book.policy.depth
    may_plan = len(tried.lined) < depth or entry.rank < tried.last
    if may_plan or entry.earliest > now:
        _plan(book, entry, now, tried, may_plan=may_plan)
    elif not _hopeless(book, entry, now, tried):
        if find_place(book, entry, now, may_plan=False, last=tried.last):
            tried.note(book, entry, now)
    elif entry.reason is not None:
        walk.drop(entry)
    book.unserved.discard(entry.id)
    if entry.state.waits and entry.reason is None:
        entry.reason = far_back(entry, depth)
        book.touch(entry)


def _plan(book: Book, entry: Entry, now: int, tried: Tried, *, may_plan: bool) -> None:
    """Find a place now or later for one at the head of the line, by preemption if it is entitled to it."""
    if find_place(book, entry, now, may_plan=may_plan, last=tried.last):
        tried.note(book, entry, now)
    if not entry.state.waits:
        return
    tried.preemptor.help(entry, now)
    if entry.plan is None and entry.reason is None:
        entry.reason = explain(book, entry, now)
        book.touch(entry)
    if entry.plan is not None and not entry.plan.firm:
        _line_up(book, entry, tried)


def _line_up(book: Book, entry: Entry, tried: Tried) -> None:
    """Count a promise; where there are more than the policy's depth, the last in rank loses its own."""
    lined = [other for other in book.planned.values() if not is_firm(other)]
    if len(lined) > book.policy.depth:
        last = max(lined, key=lambda other: other.rank)
        book.set_plan(last, None)
        book.freed = True
        lined.remove(last)
    tried.lined = sorted(other.rank for other in lined)


def _hopeless(book: Book, entry: Entry, now: int, tried: Tried) -> bool:
    """Tell, from what is known already, that it cannot start now."""
    return tried.fails(entry) or not _quota_now(book, entry, now, any)


def _quota_now(book: Book, entry: Entry, now: int, of: Callable[[Iterable[bool]], bool]) -> bool:
    """Tell whether any, or all, of its pools' accelerators are within the tenant's quota now."""
    return of(book.in_quota(entry, board, now) for board in book.pools_for(entry.request))
