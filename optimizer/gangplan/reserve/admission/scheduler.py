"""Who gets slots, and when: a pure function of a book and a time.

    expire leases -> draw plans together -> in the line's order: grant now, or promise the earliest start -> preempt

A promise (conservative backfill) stands on exact slots of the board, so that whoever comes later and ranks lower fits
around it. A higher rank displaces lower promises, except accepted windows.

Source: Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM
SP2 with Backfilling", IEEE TPDS 2001.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry, Plan, Rank
from gangplan.reserve.admission.line import Line
from gangplan.reserve.admission.placing import LATE_US, draw_together, find_later, find_now, keep_promise, promise
from gangplan.reserve.admission.preemption import Preemptor, settle
from gangplan.reserve.admission.reasons import say_why
from gangplan.reserve.moments import FOREVER
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
    keep_due(book, now)
    book.rank_promises()
    for _ in range(ROUNDS):
        freed, book.freed = book.freed, False
        if freed:
            draw_together(book, now)
        elif not book.unserved:
            break
        Pass(book, now).serve(book.line if freed else _line_of_unserved(book))
    settle(book)
    book.lost.clear()
    say_why(book, now)


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


def keep_due(book: Book, now: int) -> None:
    """Grant what is promised for now or before, ahead of all that may have come since; one that lapsed waits anew."""
    due = [book.live[id] for id in book.unserved]
    for entry in sorted(due, key=lambda one: one.rank):
        plan = entry.plan
        if plan is not None and plan.start <= now:
            keep_promise(book, entry, plan, now)


def _line_of_unserved(book: Book) -> Line:
    """Return a line of those that are to be served again, and of the promised, who count in their tenants' shares."""
    line = Line()
    for id in book.unserved | book.planned.keys():
        line.add(book.live[id])
    return line


class Pass:
    """One pass along a line, in the order of ranks, among those with promises.

    Where a gang without a promise comes before some who have one, these are lifted off the board, all at once, so that
    it finds a place as though they had none. Each is put back in its turn, or, its slots gone, served anew.
    """

    def __init__(self, book: Book, now: int) -> None:
        self._book = book
        self._now = now
        self._depth = book.policy.depth
        self._lined = 0  # promises so far
        self._behind: deque[Entry] = deque()  # those with promises whose turn is still to come
        self._lifted = False  # these are off the board
        self._failed: dict[int, int] = {}  # by kind: the shortest walltime that does not fit now
        self._preemptor = Preemptor(book)

    def serve(self, line: Line) -> None:
        """Serve all in a line; most of a long one is passed over, as not fitting by its kind or quota.

        Nobody is unserved after it; those who wait and do not know yet why are told.
        """
        book = self._book
        self._behind.extend(book.promised())
        walk = book.walk(line, counts=self._counts)
        for entry, share in walk:
            if entry.plan is None and entry.id not in book.lost:
                entry.rank = (entry.points, share, entry.arrival)
                self._catch_up(entry.rank)
                if self._serve(entry):
                    walk.pass_over(entry)
        self._catch_up((FOREVER, 0.0, 0))
        book.unsaid.update(id for id in book.unserved if book.live[id].reason is None)
        book.unserved.clear()

    def _catch_up(self, rank: Rank) -> None:
        """Let those with promises have their turn, up to a rank."""
        while self._behind and self._behind[0].rank < rank:
            self._stand(self._behind.popleft())

    def _stand(self, entry: Entry) -> None:
        """Keep a promise, in its turn, or serve the gang anew."""
        book, plan = self._book, entry.plan
        if plan is None or not self._stands(entry, plan):
            self._serve(entry)
        elif self._lined >= self._depth:
            book.set_plan(entry, None)
            book.freed = True
            self._serve(entry)
        else:
            self._preemptor.help(entry, self._now)
            self._lined += entry.displaceable

    def _stands(self, entry: Entry, plan: Plan) -> bool:
        """Put a lifted promise back; False when its slots went to a higher rank: what it leaves is offered again."""
        book = self._book
        if not self._lifted:
            return True
        if book.is_free(entry, book.boards[plan.pool], plan.slots, plan.start, plan.end):
            book.put_back(entry)
            return True
        book.forget_plan(entry)
        book.freed = True
        return False

    def _serve(self, entry: Entry) -> bool:
        """Grant one request, or promise it a start; True when it, and all like it that come later, must wait."""
        may_plan = self._lined < self._depth
        hopeless = not may_plan and entry.earliest <= self._now and self._is_hopeless(entry)
        if not hopeless:
            self._place(entry, may_plan=may_plan)
        return hopeless

    def _place(self, entry: Entry, *, may_plan: bool) -> None:
        """Find a place, by preemption if it is entitled to it."""
        book, now = self._book, self._now
        found = find_now(book, entry, now)
        if self._behind and (found is None or found[0] is not book.pools_for(entry.request)[0]):
            self._lift()
            found = find_now(book, entry, now)
        if found is None:
            self._note(entry)
            after = max(now, entry.earliest)
            if may_plan or after > now:
                found = find_later(book, entry, after, until=FOREVER if entry.latest is None else entry.latest)
        if found is not None:
            promise(book, entry, found, now)
        if entry.state.waits and may_plan:
            self._preemptor.help(entry, now)
        self._lined += entry.displaceable

    def _lift(self) -> None:
        """Take the promises of all that rank lower off the board, until their turn."""
        if not self._lifted:
            self._lifted = True
            for other in self._behind:
                self._book.lift(other)

    def _note(self, entry: Entry) -> None:
        """Note that it does not fit now, if it is for want of slots; what is free only shrinks while a pass goes on."""
        if entry.earliest <= self._now and self._quota_now(entry, all):
            self._failed[entry.kind] = min(entry.limit, self._failed.get(entry.kind, FOREVER))

    def _is_hopeless(self, entry: Entry) -> bool:
        """Tell, from what is known already, that it cannot start now."""
        return entry.limit >= self._failed.get(entry.kind, FOREVER) or not self._quota_now(entry, any)

    def _quota_now(self, entry: Entry, of: Callable[[Iterable[bool]], bool]) -> bool:
        """Tell whether any, or all, of its pools' accelerators are within the tenant's quota now."""
        book = self._book
        return of(book.in_quota(entry, board, self._now) for board in book.pools_for(entry.request))

    def _counts(self, entry: Entry) -> bool:
        """Tell whether a gang counts in its tenant's share: it was granted, or has a promise, or had one till now."""
        return not entry.state.waits or entry.displaceable or entry.id in self._book.lost
