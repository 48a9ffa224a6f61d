"""Who gets slots, and when: `decide` on a book at a moment, then `commit`.

    expire leases -> grant what is due -> move promises ahead -> in the line's order: grant now, or promise the earliest
    start, or preempt

A promise (conservative backfill) stands on exact slots of the board, so that whoever comes later and ranks lower fits
around it. A higher rank displaces lower promises, except accepted windows.

Source: Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in Scheduling the IBM
SP2 with Backfilling", IEEE TPDS 2001; decision and commit as in Kueue's `pkg/scheduler/scheduler.go`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gangplan.clock import FOREVER
from gangplan.reserve.admission.agenda import Agenda
from gangplan.reserve.admission.book import Book, EntryChange
from gangplan.reserve.admission.entry import BORROWS, Entry, Rank, borrows
from gangplan.reserve.admission.occupancy import Undo
from gangplan.reserve.admission.placing import (
    DRAWN,
    LATE_US,
    TRIES,
    find_later,
    find_now,
    keep_promise,
    take_start,
)
from gangplan.reserve.admission.preemption import Preemptor, spare_victims
from gangplan.reserve.admission.waiting_line import Line, Walk
from gangplan.types import ReservationId, ReservationState

ROUNDS = 8
"""How often one admission serves the line again to offer what a displaced promise left; the next one goes on."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What an admission changes: reservations, the last token given, and what the next admission has to look at."""

    changes: tuple[EntryChange, ...]
    tokens: int
    agenda: Agenda


def admit(book: Book, now: int) -> None:
    """Decide, and commit that at once."""
    commit(book, decide(book, now))


def look_ahead(book: Book, now: int) -> None:
    """Let an admission be made within a trial, which takes it back."""
    Admission(book, now).run()


def decide(book: Book, now: int) -> Decision:
    """Return what an admission at `now` changes; the book is as before when this returns.

    The line is served on the book itself, in a trial that is taken back: a copy of a large book would take longer than
    the admission.
    """
    with book.trial():
        look_ahead(book, now)
        return Decision(changes=book.changes(), tokens=book.tokens, agenda=book.agenda)


def commit(book: Book, decision: Decision) -> None:
    """Let a decision hold; the book must not have changed since."""
    book.apply(decision.changes, decision.tokens, decision.agenda)


def expire(book: Book, now: int) -> None:
    """End the leases that ran out and the requests whose last start has passed; put the others that are due in line."""
    while (entry := book.agenda.pop_due(book.live, now)) is not None:
        if entry.expires is not None and entry.expires <= now:
            _end_lease(book, entry, entry.expires)
        elif entry.leave is not None:
            book.tell(entry)
        elif _missed(entry, now):
            book.end(entry, ReservationState.EXPIRED, now)
        else:
            if entry.retry is not None:
                book.retry(entry, None)
            book.agenda.unserved.add(entry.id)


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
    return entry.promise is None or now - entry.promise.start > LATE_US


class Admission:
    """One admission: as many passes along the line as it takes until nothing more becomes free."""

    def __init__(self, book: Book, now: int) -> None:
        self._book = book
        self._now = now

    def run(self) -> None:
        """Expire what is over, then grant or promise slots in the line's order.

        Where nothing became free, only the new and those who lost a promise are looked at.
        """
        book, agenda, now = self._book, self._book.agenda, self._now
        expire(book, now)
        spare_victims(book, now)  # before others are promised the slots of those who may stay
        self._keep_due()
        self._rank_promises()
        for _ in range(ROUNDS):
            freed, agenda.freed = agenda.freed, False
            if not freed and not agenda.unserved:
                break
            preemptor, fresh = Preemptor(book), frozenset(agenda.unserved)
            for own in (True, False) if book.occupancy.quotas.owners_first else (False,):
                if freed:
                    self._move_ahead(own=own)
                one = Pass(book, now, preemptor, own=own, freed=freed, fresh=fresh)
                one.serve(book.line if freed else self._unserved())
            agenda.unserved.clear()
        spare_victims(book, now)
        agenda.lost.clear()
        agenda.ranks = {id: rank for id, rank in agenda.ranks.items() if id in book.promised}

    def _keep_due(self) -> None:
        """Grant what is promised for now or before, ahead of all that may have come since."""
        agenda = self._book.agenda
        due = [self._book.live[id] for id in agenda.unserved]
        for entry in sorted(due, key=agenda.rank_of):
            promise = entry.promise
            if promise is not None and promise.start <= self._now:
                keep_promise(self._book, entry, promise, self._now)

    def _rank_promises(self) -> None:
        """Let each promise rank as it did when it was made, or better, where its tenant's share has fallen since."""
        space, shares = self._book.occupancy, dict[str, float]()
        promised = [entry for entry in self._book.promised.values() if entry.displaceable]
        for entry in sorted(promised, key=lambda entry: (entry.points, entry.arrival)):
            tenant = entry.request.tenant
            share = shares.get(tenant)
            share = space.share(tenant) if share is None else share
            shares[tenant] = share + space.part(entry)
            made = entry.rank
            rank = (entry.points + (BORROWS if borrows(made) else 0), share, entry.arrival)
            self._book.agenda.ranks[entry.id] = rank if entry.promise is None else min(rank, made)

    def _move_ahead(self, *, own: bool) -> None:
        """Start promised gangs now where that became possible, and move the first promises ahead; none moves later.

        Where owners go first, with `own` those that do not borrow, else those that do.
        """
        book, now, drawn = self._book, self._now, 0
        staged = book.occupancy.quotas.owners_first
        for entry in sorted(book.promised.values(), key=book.agenda.rank_of):
            promise, after = entry.promise, max(now, entry.earliest)
            if promise is None or promise.start <= after or (staged and borrows(entry.rank) is own):
                continue
            if drawn >= DRAWN and not book.occupancy.may_fit_now(entry):
                continue
            put_back = book.occupancy.lift(entry)
            start = find_now(book.occupancy, entry, now, own=own)
            if start is None and drawn < DRAWN:
                drawn += 1
                start = find_later(book.occupancy, entry, after, own=own, until=promise.start - 1, tries=TRIES)
            put_back()
            if start is not None:
                take_start(book, entry, start, now, book.agenda.rank_of(entry))

    def _unserved(self) -> Line:
        """Return a line of the unserved, and of those with promises, which count in their tenants' shares."""
        line = Line()
        for id in self._book.agenda.unserved | self._book.promised.keys():
            line.add(self._book.live[id])
        return line


class Turn(NamedTuple):
    """When a gang with a promise, or that has just lost one, has its turn; a hope is to start now by borrowing."""

    rank: Rank
    entry: Entry
    hope: bool = False


class Pass:
    """One pass along a line, in the order of ranks; those with promises have their turn among the others.

    A gang without a promise is placed as though all promises of lower rank did not exist: they are lifted off the
    board. Each is put back in its turn; if its slots are gone by then, the gang is served again.

    Where owners go first there are two passes. The first (`own`) serves within nominal quotas. The second serves those
    that have to borrow, around all that the first has promised; an owner may start now by borrowing, instead of later.
    """

    def __init__(
        self,
        book: Book,
        now: int,
        preemptor: Preemptor,
        *,
        own: bool,
        freed: bool,
        fresh: Container[ReservationId],
    ) -> None:
        self._book = book
        self._space = book.occupancy
        self._now = now
        self._own = own
        self._staged = book.occupancy.quotas.owners_first
        self._freed = freed  # something became free, so that all may hope
        self._fresh = fresh  # new in this admission
        self._depth = book.policy.depth
        self._promises = 0  # so far
        self._behind = deque(sorted(self._turns(), key=lambda turn: turn.rank))  # those whose turn is still to come
        self._lifted: dict[ReservationId, Undo] | None = None  # how these are put back, once they are lifted
        self._failed: dict[int, int] = {}  # by kind: the shortest walltime that does not fit now
        self._for: dict[tuple[str, int], bool] = {}  # by tenant and kind: whether this pass may bring them anything
        self._preemptor = preemptor

    def _turns(self) -> Iterator[Turn]:
        """Yield the turns of those whose promise a higher rank may displace, or has just displaced."""
        book, agenda = self._book, self._book.agenda
        for entry in book.promised.values():
            rank = agenda.rank_of(entry)
            if entry.displaceable:
                yield Turn(rank, entry)
            if self._staged and not self._own and not borrows(rank) and self._may_hope(entry):
                yield Turn(self._rank(rank), entry, hope=True)
        for id in agenda.lost:
            entry = book.live.get(id)
            if entry is not None and entry.state.waits and not entry.promise:
                yield Turn(self._rank(agenda.rank_of(entry)), entry)

    def _rank(self, rank: Rank) -> Rank:
        """Return the rank at which a gang is served in this pass."""
        points = BORROWS if self._staged and not self._own and not borrows(rank) else 0
        return rank[0] + points, *rank[1:]

    def _may_hope(self, entry: Entry) -> bool:
        """Tell whether a gang with a start of its own may start sooner by borrowing."""
        looked = self._freed or entry.id in self._fresh
        return looked and entry.earliest <= self._now and self._space.may_borrow(entry)

    def serve(self, line: Line) -> None:
        """Serve all in a line whose pass this is.

        Most of a long line is skipped, since others of its kind did not fit.
        """
        lost = self._book.agenda.lost
        walk = Walk(line, self._space, counts=self._counts)
        for entry, share in walk:
            if entry.promise is None and entry.id not in lost:
                rank = self._rank((entry.points, share, entry.arrival))
                self._catch_up(rank)
                if not self._is_for(entry) or self._serve(entry, rank):
                    walk.pass_over(entry)
        self._catch_up((FOREVER, 0.0, 0))

    def _is_for(self, entry: Entry) -> bool:
        """Tell whether this pass may bring a gang anything."""
        if not self._staged:
            return True
        known = self._for.get(key := (entry.request.tenant, entry.kind))
        if known is None:
            known = self._for[key] = self._space.may_own(entry) if self._own else self._space.may_borrow(entry)
        return known

    def _catch_up(self, rank: Rank) -> None:
        """Let those with promises have their turn, up to a rank."""
        while self._behind and self._behind[0].rank < rank:
            turn = self._behind.popleft()
            if turn.hope:
                self._start_now(turn.entry, turn.rank)
            else:
                self._review(turn.entry, turn.rank)

    def _review(self, entry: Entry, rank: Rank) -> None:
        """Keep a promise, in its turn, or serve the gang again."""
        book = self._book
        if entry.promise is not None:
            if self._stands(entry) and self._promises < self._depth:
                self._preemptor.help(entry, rank, self._now, own=self._own)
                self._promises += entry.displaceable
                return
            book.withdraw(entry)
            book.agenda.freed = True
        if not self._staged or self._own is not borrows(rank):  # else the pass of those who borrow serves it
            self._serve(entry, self._rank(rank))

    def _stands(self, entry: Entry) -> bool:
        """Put a lifted promise back, and tell whether it can be kept: its slots may have gone to a higher rank."""
        if self._lifted is None:
            return True
        kept = self._space.can_keep(entry)
        self._lifted.pop(entry.id)()
        return kept

    def _start_now(self, entry: Entry, rank: Rank) -> None:
        """Let a gang with a start of its own borrow to start at once; only a new one takes promised slots."""
        if entry.promise is None or not self._space.may_fit_now(entry):
            return
        put_back = self._space.lift(entry)
        start = find_now(self._space, entry, self._now, own=False)
        if start is None and self._behind and entry.id in self._fresh:
            self._lift()
            start = find_now(self._space, entry, self._now, own=False)
        put_back()
        if start is not None:
            take_start(self._book, entry, start, self._now, rank)

    def _serve(self, entry: Entry, rank: Rank) -> bool:
        """Grant one request, or promise it a start; True when it, and all like it that come later, must wait."""
        may_promise = self._promises < self._depth
        hopeless = not may_promise and entry.earliest <= self._now and self._is_hopeless(entry)
        if not hopeless:
            self._place(entry, rank, may_promise=may_promise)
        return hopeless

    def _place(self, entry: Entry, rank: Rank, *, may_promise: bool) -> None:
        """Find a start, by preemption if it is entitled to it."""
        now, own = self._now, self._own
        start = find_now(self._space, entry, now, own=own)
        if self._behind and (start is None or start.board is not self._space.pools_for(entry.request)[0]):
            self._lift()
            start = find_now(self._space, entry, now, own=own)
        if start is None:
            self._note(entry)
            after = max(now, entry.earliest)
            if may_promise or after > now:
                until = FOREVER if entry.latest is None else entry.latest
                start = find_later(self._space, entry, after, own=own, until=until)
        if start is not None:
            take_start(self._book, entry, start, now, rank)
        if entry.state.waits and may_promise:
            self._preemptor.help(entry, rank, now, own=own)
        self._promises += entry.displaceable

    def _lift(self) -> None:
        """Take the promises of all that rank lower off the board, until their turn."""
        if self._lifted is None:
            self._lifted = {turn.entry.id: self._space.lift(turn.entry) for turn in self._behind if not turn.hope}

    def _note(self, entry: Entry) -> None:
        """Remember that its kind does not fit now for lack of slots; within a pass the free slots only become fewer."""
        if entry.earliest <= self._now and self._quota_now(entry, all):
            self._failed[entry.kind] = min(entry.limit, self._failed.get(entry.kind, FOREVER))

    def _is_hopeless(self, entry: Entry) -> bool:
        """Tell whether it cannot start now, by its quota or since its kind did not fit before."""
        return entry.limit >= self._failed.get(entry.kind, FOREVER) or not self._quota_now(entry, any)

    def _quota_now(self, entry: Entry, of: Callable[[Iterable[bool]], bool]) -> bool:
        """Tell whether any, or all, of its pools' accelerators are within the tenant's quota now."""
        pools = self._space.pools_for(entry.request)
        return of(self._space.in_quota(entry, board, self._now, own=self._own) for board in pools)

    def _counts(self, entry: Entry) -> bool:
        """Tell whether a gang counts in its tenant's share: it was granted, or has a promise, or had one till now."""
        return not entry.state.waits or entry.displaceable or entry.id in self._book.agenda.lost
