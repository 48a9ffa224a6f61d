"""Who gets slots, and when: a pure function of a snapshot and a time.

    expire leases -> draw plans together -> in the line's order: grant now, or promise the earliest start -> preempt

A promise (conservative backfill) stands on exact slots of the board, so that whoever comes later and ranks lower fits
around it. A higher rank displaces lower promises, except accepted windows.

Source: Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM
SP2 with Backfilling", IEEE TPDS 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field

from gangplan.reserve.book import Book
from gangplan.reserve.entry import Entry, Rank
from gangplan.reserve.line import Line, Walk
from gangplan.reserve.moments import FOREVER
from gangplan.reserve.placing import LATE_US, draw_together, find_place, is_firm, keep_promise, quota_allows
from gangplan.reserve.policy import Policy
from gangplan.reserve.preemption import Preemptor, settle
from gangplan.reserve.reasons import explain, far_back
from gangplan.types import CapacityCalendar, NodeState, Reservation, ReservationState

ROUNDS = 8
"""What a displaced promise leaves is offered again so often at most in one admission; the next goes on."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that admission looks at: the calendar, the policy, the nodes, what is not final, and the last token given."""

    calendar: CapacityCalendar | None
    entries: tuple[Entry, ...]
    last_token: int
    policy: Policy = field(default_factory=Policy)
    nodes: dict[str, NodeState] = field(default_factory=dict[str, NodeState])


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What admission changed, as the reservations stand after it."""

    changed: tuple[Reservation, ...]
    last_token: int


def decide(snapshot: Snapshot, now: int) -> Decision:
    """Return what is to change at `now`; the snapshot stays as it is."""
    book = book_of(snapshot)
    admit(book, now)
    return Decision(changed=tuple(e.reservation() for e in book.changed.values()), last_token=book.tokens)


def snapshot_of(book: Book) -> Snapshot:
    """Return a copy of a book that `decide` may be asked about."""
    return Snapshot(
        calendar=book.calendar,
        entries=tuple(copy(entry) for entry in book.live.values()),
        last_token=book.tokens,
        policy=book.policy,
        nodes=dict(book.nodes),
    )


def book_of(snapshot: Snapshot) -> Book:
    """Return a book of a snapshot's own copies."""
    book = Book()
    book.live = {entry.id: copy(entry) for entry in snapshot.entries}
    book.load(snapshot.calendar, snapshot.policy, dict(snapshot.nodes))
    book.tokens = max(book.tokens, snapshot.last_token)
    return book


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

    def note(self, entry: Entry) -> None:
        """Note that it does not fit now; what is free only shrinks while a pass goes on."""
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
        whole = find_place(book, entry, now, may_plan=False, last=tried.last)
        if whole and entry.state.waits and _quota_now(book, entry, now, all):
            tried.note(entry)
    elif entry.reason is not None:
        walk.drop(entry)
    book.unserved.discard(entry.id)
    if entry.state.waits and entry.reason is None:
        entry.reason = far_back(entry, depth)
        book.touch(entry)


def _plan(book: Book, entry: Entry, now: int, tried: Tried, *, may_plan: bool) -> None:
    """Find a place now or later for one at the head of the line, by preemption if it is entitled to it."""
    whole = find_place(book, entry, now, may_plan=may_plan, last=tried.last)
    if not entry.state.waits:
        return
    if whole and entry.earliest <= now and _quota_now(book, entry, now, all):
        tried.note(entry)
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
    boards = book.pools_for(entry.request)
    return of(quota_allows(book, entry, board, now, now + entry.limit_on(board.pool.accelerator)) for board in boards)


__all__ = ["Decision", "Snapshot", "admit", "book_of", "decide", "expire", "snapshot_of"]
