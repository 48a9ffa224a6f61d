"""Who gets slots, and when: a pure function of a snapshot and a time.

    expire leases -> draw plans together -> in rank order: grant now, or promise the earliest start

A promise (conservative backfill) stands on exact slots of the board, so that whoever comes later and ranks lower fits
around it. A higher rank displaces lower promises, except accepted windows.

Source: Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM
SP2 with Backfilling", IEEE TPDS 2001.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from gangplan.reserve.board import Board, Slots
from gangplan.reserve.book import Book
from gangplan.reserve.entry import Entry, Plan
from gangplan.reserve.moments import FOREVER, SECOND
from gangplan.reserve.reasons import explain, far_back
from gangplan.types import CapacityCalendar, Reservation, ReservationState

TRIES = 12
"""So many starts are tried in full to move one promise ahead."""

LATE_US = 5 * SECOND
"""A tick may come so much later than a promised start; the promise then still ends when it was to end."""

DEPTH = 128
"""So many of the line get a promise with slots; the rest may only start at once, around them."""

DRAWN = 6
"""So many promises are moved ahead after a release; those behind them follow when they come first."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that admission looks at: the calendar, what is not final, and the last token given."""

    calendar: CapacityCalendar | None
    entries: tuple[Entry, ...]
    last_token: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What admission changed, as the reservations stand after it."""

    changed: tuple[Reservation, ...]
    last_token: int


def decide(snapshot: Snapshot, now: int) -> Decision:
    """Return what is to change at `now`; the snapshot stays as it is."""
    book = Book()
    for entry in snapshot.entries:
        book.add(copy(entry))
    book.tokens = max(book.tokens, snapshot.last_token)
    if snapshot.calendar is not None:
        book.load_calendar(snapshot.calendar)
    admit(book, now)
    return Decision(changed=tuple(e.reservation() for e in book.changed.values()), last_token=book.tokens)


def admit(book: Book, now: int) -> None:
    """Expire what is over, then grant or promise slots in rank order.

    Where nothing became free, only the new and those who lost a promise need to be looked at.
    """
    expire(book, now)
    tried = Tried(book)
    if book.freed:
        book.freed = False
        _draw_together(book, now)
        for position, (*_, id) in enumerate(list(book.waiting)):
            entry = book.live[id]
            # Most of a long line ends here: too far back for a promise, and known not to fit now.
            if position >= DEPTH and entry.limit >= tried.failed.get(entry.kind, FOREVER) and _far(entry, now):
                continue
            if entry.state is ReservationState.WAITING:
                _serve(book, entry, now, may_plan=position < DEPTH, tried=tried)
    while book.unserved:
        entry = min((book.live[id] for id in book.unserved), key=lambda one: one.rank)
        _serve(book, entry, now, may_plan=book.position(entry) < DEPTH, tried=tried)


def expire(book: Book, now: int) -> None:
    """End the leases that ran out and the requests whose last start has passed; mark the others that are due."""
    while (entry := book.pop_due(now)) is not None:
        if entry.expires is not None and entry.expires <= now:
            book.end(entry, ReservationState.EXPIRED, entry.expires)
        elif _missed(entry, now):
            book.end(entry, ReservationState.EXPIRED, now)
        else:
            book.unserved.add(entry.id)


class Tried:
    """What one pass has found out: who has the last promise, and which wishes do not fit now."""

    def __init__(self, book: Book) -> None:
        self.last = max((entry.rank for entry in book.planned.values() if not _firm(entry)), default=(0, 0.0, 0))
        self.failed: dict[int, int] = {}  # by kind: the shortest walltime that did not fit

    def fails(self, entry: Entry) -> bool:
        """Tell whether a gang of this shape, for as long or less, was found not to fit now."""
        return entry.limit >= self.failed.get(entry.kind, FOREVER)

    def note(self, entry: Entry) -> None:
        """Note that it does not fit now; what is free only shrinks while a pass goes on."""
        self.failed[entry.kind] = min(entry.limit, self.failed.get(entry.kind, FOREVER))


def _far(entry: Entry, now: int) -> bool:
    """Tell whether a gang has no promise to keep, no window to come, and its reason said."""
    return entry.plan is None and entry.reason is not None and entry.earliest <= now


def _missed(entry: Entry, now: int) -> bool:
    """Tell whether a request can no longer start in its window; a promise in it is kept though the tick is late."""
    if entry.latest is None or entry.latest >= now:
        return False
    return entry.plan is None or now - entry.plan.start > LATE_US


def _draw_together(book: Book, now: int) -> None:
    """Where something became free, start promised gangs now, and move the first promises ahead; none moves later."""
    drawn = 0
    for entry in sorted(book.planned.values(), key=lambda one: one.rank):
        plan, after = entry.plan, max(now, entry.earliest)
        if plan is None or plan.start <= after:
            continue
        book.lift(entry)
        found = _find_now(book, entry, now)
        if found is None and drawn < DRAWN:
            drawn += 1
            found = find(book, entry, after, now, until=plan.start - 1, tries=TRIES)
        book.put_back(entry)
        if found is not None:
            _promise(book, entry, *found, now=now)


def _serve(book: Book, entry: Entry, now: int, *, may_plan: bool, tried: Tried) -> None:
    """Grant one request, or promise it a start, or say why it waits."""
    book.unserved.discard(entry.id)
    if entry.plan is not None and entry.plan.start <= now and _keep_promise(book, entry, entry.plan, now):
        return
    if entry.plan is not None and not may_plan and not entry.plan.firm:
        book.set_plan(entry, None)
    if entry.plan is None and (may_plan or entry.earliest > now or not tried.fails(entry)):
        _find_place(book, entry, now, may_plan=may_plan, tried=tried)
    book.unserved.discard(entry.id)
    if entry.state is ReservationState.WAITING and entry.reason is None:
        entry.reason = explain(book, entry, now) if may_plan else far_back(entry, DEPTH)
        book.touch(entry)


def _keep_promise(book: Book, entry: Entry, plan: Plan, now: int) -> bool:
    """Grant the promised slots; False when the promise lapsed because nobody ticked for long."""
    book.lift(entry)
    book.forget_plan(entry)
    board = book.boards.get(plan.pool)
    for end in (now + entry.limit, plan.end):
        in_time = end > now and now - plan.start <= LATE_US
        if board and (in_time or end != plan.end) and board.is_free(plan.slots, now, end):
            book.grant(entry, board, plan.slots, now, end)
            return True
    return False


def _find_place(book: Book, entry: Entry, now: int, *, may_plan: bool, tried: Tried) -> None:
    """Find slots as though nobody of lower rank had been promised any, then put back the promises that still hold."""
    lower = _lower(book, entry) if entry.rank < tried.last else []
    for other in lower:
        book.lift(other)
    after = max(now, entry.earliest)
    until = FOREVER if entry.latest is None else entry.latest
    found = find(book, entry, after, now, until=until) if may_plan or after > now else _find_now(book, entry, now)
    if found is not None:
        _promise(book, entry, *found, now=now)
    for other in lower:
        _restore(book, other)
    if after <= now and entry.state is ReservationState.WAITING and not lower:
        tried.note(entry)


def _lower(book: Book, entry: Entry) -> list[Entry]:
    """Return those of lower rank whose promises are not firm, in rank order."""
    lower = [other for other in book.planned.values() if other.rank > entry.rank and not _firm(other)]
    return sorted(lower, key=lambda other: other.rank)


def _firm(entry: Entry) -> bool:
    return entry.plan is not None and entry.plan.firm


def _restore(book: Book, entry: Entry) -> None:
    """Put a lifted promise back, or drop it when its slots are gone; it is served again in its turn."""
    plan = entry.plan
    assert plan is not None  # noqa: S101
    if book.boards[plan.pool].is_free(plan.slots, plan.start, plan.end):
        book.put_back(entry)
    else:
        book.forget_plan(entry)


def _promise(book: Book, entry: Entry, board: Board, start: int, slots: Slots, *, now: int) -> None:
    """Grant what starts now; promise what starts later."""
    if start <= now:
        book.set_plan(entry, None)
        book.grant(entry, board, slots, now, now + entry.limit)
    else:
        firm = entry.earliest > now or _firm(entry)
        book.set_plan(entry, Plan(pool=board.pool.name, slots=slots, start=start, end=start + entry.limit, firm=firm))
        entry.reason = explain(book, entry, now)


def find(
    book: Book, entry: Entry, after: int, now: int, *, until: int, tries: int = FOREVER
) -> tuple[Board, int, Slots] | None:
    """Return where and when the gang may start first: the preferred pool that has it now, else the earliest of all."""
    if after <= now and (at_once := _find_now(book, entry, now)):
        return at_once
    best: tuple[Board, int, Slots] | None = None
    for board in book.pools_for(entry.request):
        last = until if best is None else best[1] - 1
        if found := board.earliest(entry.shape, entry.limit, after, last, tries):
            best = (board, *found)
    return best


def _find_now(book: Book, entry: Entry, now: int) -> tuple[Board, int, Slots] | None:
    """Return the preferred pool that has the slots at once."""
    if entry.earliest > now:
        return None
    for board in book.pools_for(entry.request):
        if slots := board.fit_now(entry.shape, now, now + entry.limit):
            return board, now, slots
    return None


def snapshot_of(book: Book) -> Snapshot:
    """Return a copy of a book that `decide` may be asked about."""
    return Snapshot(calendar=book.calendar, entries=tuple(copy(e) for e in book.live.values()), last_token=book.tokens)


__all__ = ["Decision", "Snapshot", "admit", "decide", "expire", "find", "snapshot_of"]
