"""The ledger's present state in memory: reservations that are not final, and what they hold. No input or output here.

A store keeps one book, brings it up to date, lets one call at a time work on it, and writes what `changed`. A book is
three things: its rows (`live` and the indexes of it), their `occupancy` of slots and quota, and the `agenda` of the
next admission. Each change of a row goes through `_rewriting`, which keeps all three in step.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

from gangplan.clock import FOREVER, or_none_us, span_us
from gangplan.errors import InputError
from gangplan.reserve.admission.agenda import Agenda
from gangplan.reserve.admission.entry import Entry, Leave, Promise, Snapshot
from gangplan.reserve.admission.occupancy import Occupancy
from gangplan.reserve.admission.waiting_line import Line, Walk
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import Board, Marks, Shape, Slots, next_change
from gangplan.types import CapacityCalendar, GangRequest, ReservationId, ReservationState, Token

INTERRUPTED_FIRST = -(2**60)
"""The points of those whose nodes went away: ahead of all others."""


class Document(NamedTuple):
    """A calendar, a policy or the nodes' states, as written; the newest of a kind is in force."""

    kind: str  # calendar, policy or nodes
    body: str
    by: str = ""
    why: str = ""


class EntryChange(NamedTuple):
    """A reservation, how it is after a decision, and whether that is to be written."""

    entry: Entry
    after: Snapshot
    changed: bool


class Book:
    """All reservations that are not final, with the documents in force."""

    def __init__(self) -> None:
        self.calendar: CapacityCalendar | None = None
        self.policy = Policy()
        self.nodes: Marks = {}
        self.documents: list[Document] = []  # calendars, policies and nodes' states that are to be written
        self.changed: dict[ReservationId, Entry] = {}  # reservations that are to be written
        self.arrivals = 0
        self.tokens = 0
        self.live: dict[ReservationId, Entry] = {}
        self.line = Line()  # what waits
        self.promised: dict[ReservationId, Entry] = {}  # what waits with a promise
        self.leaving: dict[ReservationId, Entry] = {}  # holders that were given notice
        self.occupancy = Occupancy(None, self.policy)
        self.agenda: Agenda = Agenda()
        self._kinds: dict[tuple[Any, ...], int] = {}
        # In a trial: entries as they were, and those that were not there.
        self._before: dict[ReservationId, tuple[Entry, Snapshot | None]] | None = None

    # ------------------------------------------------------------ rows

    def add(self, entry: Entry) -> None:
        """Take in an entry as it stands, with its slots or its promise."""
        request = entry.request
        window = request.earliest_start, request.deadline
        kind = (entry.shape, request.accelerators, request.slot, tuple(request.speed.items()), window)
        entry.kind = self._kinds.setdefault(kind, len(self._kinds))
        self._rate(entry)
        self.arrivals = max(self.arrivals, entry.arrival)
        self.tokens = max(self.tokens, entry.token or 0)
        self._index(entry)
        if entry.state.waits and entry.promise is None:
            self.agenda.unserved.add(entry.id)
        self.agenda.push(entry)

    def _rate(self, entry: Entry) -> None:
        """Give an entry its priority and points by the policy; one rate of ageing for all keeps their order."""
        policy, request = self.policy, entry.request
        entry.priority = policy.priority_classes.get(request.priority_class, request.priority)
        age = 0 if policy.ageing is None else entry.submitted // span_us(policy.ageing)
        interrupted = entry.state is ReservationState.INTERRUPTED
        entry.points = INTERRUPTED_FIRST if interrupted else age - entry.priority

    def remove(self, id: ReservationId) -> None:
        """Forget an entry and free what it held, if it is here."""
        entry = self.live.pop(id, None)
        if entry is not None:
            self._unindex(entry)
            self.agenda.forget(id)
            self.agenda.freed = True

    def granted(self) -> list[Entry]:
        """Return what holds slots now."""
        return [entry for entry in self.live.values() if entry.state is ReservationState.GRANTED]

    def in_order(self) -> list[Entry]:
        """Return what waits, the first to be served first."""
        line = [entry for entry, _ in Walk(self.line, self.occupancy, counts=lambda _: True)]
        space = self.occupancy
        return sorted(line, key=lambda entry: not space.may_own(entry)) if space.quotas.owners_first else line

    def next_due(self) -> int | None:
        """Return the next moment at which time alone changes something."""
        dues = self.agenda.next_due(self.live), next_change(self.nodes)
        return min((due for due in dues if due is not None), default=None)

    # ------------------------------------------------------------ how a row changes

    def _index(self, entry: Entry) -> None:
        """Add an entry to the indexes that its state calls for, and to the occupancy."""
        if entry.state.final:
            self.live.pop(entry.id, None)
            return
        self.live[entry.id] = entry
        if entry.state.waits:
            self.line.add(entry)
        if entry.promise is not None:
            self.promised[entry.id] = entry
        if entry.leave is not None:
            self.leaving[entry.id] = entry
        self.occupancy.put(entry)

    def _unindex(self, entry: Entry) -> None:
        """Take an entry off the indexes that `_index` added it to, but for `live`."""
        if entry.state.final:
            return
        if entry.state.waits:
            self.line.remove(entry)
        self.promised.pop(entry.id, None)
        self.leaving.pop(entry.id, None)
        self.occupancy.take(entry)

    @contextmanager
    def _rewriting(self, entry: Entry) -> Generator[None]:
        """Let an entry's fields change in the block: indexes, occupancy, dues and what is to be written follow."""
        self.keep(entry)
        self._unindex(entry)
        yield
        self._index(entry)
        self.touch(entry)

    def touch(self, entry: Entry) -> None:
        """Mark an entry to be written, and remember when time alone will change it."""
        self.changed[entry.id] = entry
        self.agenda.push(entry)

    def keep(self, entry: Entry) -> None:
        """In a trial, keep an entry as it was before; called before its fields change."""
        if self._before is not None and entry.id not in self._before:
            self._before[entry.id] = entry, entry.snapshot()

    @contextmanager
    def trial(self) -> Generator[None]:
        """Take back at the end of the block, however it ends, all that changed in it."""
        kept = self.agenda, self.changed, self.tokens, self.arrivals
        self.agenda, self.changed, self._before = self.agenda.copy(), {}, {}
        try:
            yield
        finally:
            before, self._before = self._before, None
            for entry, was in before.values():
                if was is None:
                    self.remove(entry.id)
                else:
                    self._rewrite(entry, was)
            self.agenda, self.changed, self.tokens, self.arrivals = kept

    def changes(self) -> tuple[EntryChange, ...]:
        """Return the entries that changed since the trial began, as they are now."""
        assert self._before is not None  # noqa: S101
        return tuple(
            EntryChange(entry, entry.snapshot(), id in self.changed) for id, (entry, _) in self._before.items()
        )

    def apply(self, changes: tuple[EntryChange, ...], tokens: int, agenda: Agenda) -> None:
        """Let a decision hold that was made on this book as it is."""
        for entry, after, changed in changes:
            self._rewrite(entry, after)
            if changed:
                self.changed[entry.id] = entry
        self.tokens, self.agenda = tokens, agenda

    def _rewrite(self, entry: Entry, snapshot: Snapshot) -> None:
        """Let an entry be as in a snapshot."""
        self._unindex(entry)
        entry.restore(snapshot)
        self._index(entry)

    # ------------------------------------------------------------ changes of one reservation

    def enter(self, request: GangRequest, *, id: ReservationId, body: str, now: int, attempt: str = "") -> Entry:
        """Let a new request wait."""
        entry = Entry(id=id, request=request, body=body, arrival=self.arrivals + 1, submitted=now, attempt=attempt)
        if self._before is not None:
            self._before[id] = entry, None
        self.add(entry)
        self.touch(entry)
        return entry

    def grant(self, entry: Entry, board: Board, slots: Slots, now: int, end: int) -> None:
        """Give a waiting gang its slots, with a token that none had before."""
        self.tokens += 1
        again = entry.state is ReservationState.INTERRUPTED
        lasts = entry.duration_on(board.pool.accelerator)
        with self._rewriting(entry):
            entry.state = ReservationState.GRANTED
            entry.token = Token(self.tokens)
            entry.pool, entry.slots = board.pool.name, slots
            entry.granted, entry.hard_end = now, end
            entry.expires = min(end, now + lasts)
            entry.promise = entry.retry = None
            self._await_claim(entry, min(lasts, span_us(self.policy.claim)) if again else entry.claim_within, now)
        self.agenda.forget(entry.id)

    def _await_claim(self, entry: Entry, within: int | None, now: int) -> None:
        """Let a grant go back if nobody claims it within a time; with None, nobody need."""
        assert entry.hard_end is not None  # noqa: S101
        entry.claim_by = None if within is None else min(entry.hard_end, now + within)
        if entry.claim_by is not None:
            self._lease(entry, entry.claim_by)

    def _lease(self, entry: Entry, until: int) -> None:
        """Let a lease end at `until`, or as late as it may."""
        assert entry.hard_end is not None  # noqa: S101
        entry.expires = min(entry.hard_end, until)
        if entry.leave is not None:  # should the notice be taken back
            entry.leave = replace(entry.leave, expires=min(entry.leave.hard_end, until))

    def renew(self, entry: Entry, ttl: int, now: int) -> None:
        """Let a lease end `ttl` from now, or as late as it may; the first time claims the grant."""
        self.keep(entry)
        if entry.claim_by is not None:
            self._claim(entry, now)
        self._lease(entry, now + ttl)
        self.touch(entry)

    def _claim(self, entry: Entry, now: int) -> None:
        """Claim a grant: its walltime counts from now where nobody was promised its slots for that much longer."""
        entry.claim_by = None
        board = self.occupancy.boards.get(entry.pool or "")
        assert entry.granted is not None  # noqa: S101
        assert entry.hard_end is not None  # noqa: S101
        if board is None or entry.leave is not None or now > entry.granted + (entry.claim_within or 0):
            return  # a later claim, after a takeover, moves no end
        end = min(now + entry.limit_on(board.pool.accelerator), or_none_us(entry.request.deadline) or FOREVER)
        if end > entry.hard_end and self.occupancy.is_free(entry, board, entry.slots, entry.hard_end, end):
            with self._rewriting(entry):
                entry.hard_end = end

    def take_over(self, entry: Entry, attempt: str, now: int) -> None:
        """Let another attempt have a reservation in its place in line, and slots under a token that none had before."""
        self.keep(entry)
        entry.attempt = attempt
        if entry.state is ReservationState.GRANTED:
            self.tokens += 1
            entry.token = Token(self.tokens)
            self._await_claim(entry, entry.claim_within, now)
        self.touch(entry)

    def end(self, entry: Entry, state: ReservationState, at: int) -> None:
        """End a waiting or granted reservation, and free what it held."""
        with self._rewriting(entry):
            entry.state, entry.ended = state, at
            entry.promise = entry.leave = None
            if state is not ReservationState.EXPIRED:  # else it says that nobody claimed the grant
                entry.claim_by = None
        self.agenda.forget(entry.id)
        self.agenda.freed = True

    def interrupt(self, entry: Entry) -> None:
        """Take a holder's slots away, and let it wait ahead of all others; its token is good for nothing more."""
        with self._rewriting(entry):
            entry.state = ReservationState.INTERRUPTED
            entry.token = entry.pool = entry.granted = entry.hard_end = entry.expires = entry.claim_by = None
            entry.leave = None
            entry.slots = ()
            entry.moves += 1
            entry.points = INTERRUPTED_FIRST
        self.agenda.unserved.add(entry.id)
        self.agenda.freed = True

    def give_notice(
        self, entry: Entry, until: int, *, why: str, state: ReservationState, beneficiary: str = "", since: int = 0
    ) -> None:
        """Tell a holder, now or at `since`, that its slots go at `until`, and it is `state`; no renewal passes that."""
        assert entry.expires is not None  # noqa: S101
        assert entry.hard_end is not None  # noqa: S101
        before = entry.leave
        expires, hard_end = (before.expires, before.hard_end) if before else (entry.expires, entry.hard_end)
        with self._rewriting(entry):
            entry.leave = Leave(until, why, state, beneficiary, expires=expires, hard_end=hard_end, since=since)
            entry.hard_end, entry.expires = min(hard_end, until), min(expires, until)
        self.agenda.freed = True  # what it would have held after that

    def tell(self, entry: Entry) -> None:
        """Let a holder know of the notice that it has been given."""
        assert entry.leave is not None  # noqa: S101
        self.keep(entry)
        entry.leave = replace(entry.leave, since=0)
        self.touch(entry)

    def take_notice_back(self, entry: Entry) -> None:
        """Let a holder stay as long as it could before, unless others were promised its slots meanwhile."""
        leave, board = entry.leave, self.occupancy.boards.get(entry.pool or "")
        if leave is None or board is None or entry.hard_end is None:
            return
        longer = leave.hard_end > entry.hard_end
        if longer and not self.occupancy.is_free(entry, board, entry.slots, entry.hard_end, leave.hard_end):
            return
        with self._rewriting(entry):
            entry.hard_end, entry.expires, entry.leave = leave.hard_end, leave.expires, None

    def promise(self, entry: Entry, promise: Promise) -> None:
        """Promise a waiting gang a start."""
        if entry.promise is not None:
            self.agenda.lost.add(entry.id)
        with self._rewriting(entry):
            entry.promise = promise
            entry.first_eta = promise.start if entry.first_eta is None else entry.first_eta
        self.agenda.forget(entry.id)

    def withdraw(self, entry: Entry) -> None:
        """Take a promise back; the gang keeps the rank that it had for it until it is served."""
        self.agenda.lost.add(entry.id)
        self.agenda.ranks[entry.id] = self.agenda.rank_of(entry)
        with self._rewriting(entry):
            entry.promise = None
        self.agenda.unserved.add(entry.id)

    def retry(self, entry: Entry, at: int | None) -> None:
        """Look again at `at` whether a waiting gang may take slots; with None, no more."""
        self.keep(entry)
        entry.retry = at
        if at is not None:
            self.touch(entry)

    def resize(self, entry: Entry, slots: Slots) -> None:
        """Let a holder hold other slots of its pool."""
        self.agenda.freed = self.agenda.freed or sum(slot.gpus for slot in slots) < entry.holds()
        with self._rewriting(entry):
            entry.slots = slots

    # ------------------------------------------------------------ calendar, policy, nodes

    def set_nodes(self, nodes: Marks) -> None:
        """Let other nodes take no gang; the caller gives those on them notice, then calls `review`."""
        self.nodes = nodes
        self.occupancy.set_nodes(nodes)
        self.agenda.freed = True

    def review(self) -> None:
        """Take back the promises that can no longer be kept, the last in rank first."""
        promised = sorted(self.promised.values(), key=self.agenda.rank_of)
        lifted = [(entry, self.occupancy.lift(entry)) for entry in promised]
        for entry, put_back in lifted:
            kept = self.occupancy.can_keep(entry)
            put_back()
            if not kept:
                self.withdraw(entry)

    def load(self, calendar: CapacityCalendar | None, policy: Policy, nodes: Marks) -> None:
        """Let a calendar, a policy and the nodes' states hold, and put on their boards what is live."""
        self.calendar, self.policy, self.nodes = calendar, policy, nodes
        self.occupancy = Occupancy(calendar, policy)
        self.occupancy.set_nodes(nodes)
        entries, self.live = list(self.live.values()), {}
        self.line, self.promised, self.leaving = Line(), {}, {}
        self.agenda.ranks.clear()
        for entry in entries:
            self.add(entry)
        self.agenda.freed = True

    def copy(self) -> Book:
        """Return a book in the same state, to try something on."""
        other = Book()
        other.live = {id: copy(entry) for id, entry in self.live.items()}
        other.load(self.calendar, self.policy, self.nodes)
        other.arrivals, other.tokens = self.arrivals, self.tokens
        return other

    def check_servable(self, request: GangRequest, shape: Shape) -> None:
        """Refuse what no calendar, and no quota, could ever serve; with no calendar yet, let it wait."""
        classes = self.policy.priority_classes
        if request.priority_class and request.priority_class not in classes:
            raise InputError.unknown("priority_class", request.priority_class, "not in the policy", classes or ["none"])
        refusal = None if self.calendar is None else self.occupancy.refusal(request, shape)
        if refusal is not None:
            raise refusal[1]
