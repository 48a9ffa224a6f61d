"""A ledger over any store: a call that changes something becomes a command, the others read the store's book."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from types import NoneType
from typing import Protocol

from gangplan.clock import Clock, from_us, require_utc, span_us, to_us
from gangplan.errors import InputError
from gangplan.reserve import admission, commands
from gangplan.reserve.admission import Book, Document, Entry, estimate, learned_ratio, look_ahead, told
from gangplan.reserve.audit import AuditEvent, Compacted, Replay
from gangplan.reserve.codec import id_of, policy_from
from gangplan.reserve.contract import PolicyChange
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import changed_by
from gangplan.reserve.subscribers import Callback, Unsubscribe
from gangplan.reserve.waiting import WaitingLedger
from gangplan.types import (
    CapacityCalendar,
    FreeCapacity,
    GangRequest,
    NodeState,
    Outage,
    PlanId,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    require_attempt,
    require_text,
    require_type,
)

_PROSPECT = ReservationId("what-if")
"""The id of a request that is only asked about: no reservation's, so that its key may be that of one."""

_LEARNED_FROM = timedelta(days=1)
"""The past whose ended gangs tell which part of its walltime a gang uses. Longer: steadier, but slower to change."""

_RELEARNED = timedelta(minutes=10)
"""How long what was learned of walltimes is used before it is computed again."""

_QUICK_S = 0.02
"""Expected starts whose computation took less, in seconds, are not cached."""

_KEPT = 10
"""The time to live of cached expected starts, in multiples of how long they took to compute."""


class LedgerStore(Protocol):
    """Keeps a book: one change at a time, each whole or not at all."""

    def change(self, command: commands.Command) -> Reservation | None:
        """Run a command on the present book, alone or with others, and keep what it changed before answering."""
        ...

    def query(self, query: commands.BookQuery[commands.T]) -> commands.T:
        """Return what a query reads from the present book."""
        ...

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """Return a reservation, and the next moment at which time alone changes something."""
        ...

    def select(self, *, since: int | None, state: ReservationState | None, owner: str = "") -> list[Entry]:
        """Return reservations in order of arrival: those not final before `since`, in one state, of one owner."""
        ...

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """Return the documents of a kind with the moments that they were written at, oldest first."""
        ...

    def audit(self) -> Iterator[AuditEvent]:
        """Return the audit log, oldest first."""
        ...

    def replay(self) -> Replay:
        """Hold the audit log against the rows."""
        ...

    def compact(self, before: int) -> Compacted:
        """Delete what ended before a moment, and fold the audit log up to it into one base."""
        ...

    def knows(self, id: ReservationId) -> bool:
        """Tell whether there is such a reservation."""
        ...

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Tell `callback`, from one thread for all, soon how a reservation stands, then every change of it."""
        ...

    def close(self) -> None:
        """Close threads and connections."""
        ...


class StoreLedger(WaitingLedger):
    """A `Ledger` over a store."""

    def __init__(self, store: LedgerStore, *, clock: Clock) -> None:
        super().__init__(clock)
        self._store = store
        self._looking = Lock()  # one computation for a long line serves all who ask meanwhile
        self._expected: tuple[dict[ReservationId, tuple[int, int]], float] = ({}, 0.0)  # and until when it is used
        self._learned: tuple[int, dict[str, float]] | None = None  # when, and what part of its walltime a tenant uses

    def _now(self) -> int:
        return to_us(self._clock())

    def _change(self, command: commands.Command) -> Reservation:
        """Run one command on a reservation."""
        reservation = self._store.change(command)
        assert reservation is not None  # noqa: S101
        return reservation

    def submit(self, request: GangRequest, attempt: str = "") -> Reservation:
        """See `Ledger.submit`."""
        return self._change(commands.Submit(request, attempt))

    def renew(self, id: ReservationId, token: Token, ttl: timedelta | None = None) -> Reservation:
        """See `Ledger.renew`."""
        return self._change(commands.Renew(id, token, ttl))

    def release(self, id: ReservationId, token: Token) -> Reservation:
        """See `Ledger.release`."""
        return self._change(commands.Release(id, token))

    def cancel(self, id: ReservationId, attempt: str | None = None) -> Reservation:
        """See `Ledger.cancel`."""
        return self._change(commands.Cancel(id, attempt))

    def resize(self, id: ReservationId, token: Token, pods: tuple[int, ...]) -> Reservation:
        """See `Ledger.resize`."""
        return self._change(commands.Resize(id, token, pods))

    def tick(self) -> None:
        """See `Ledger.tick`."""
        self._store.change(commands.Tick())

    def publish(self, calendar: CapacityCalendar, *, keep: bool = False) -> None:
        """See `LedgerOperations.publish`."""
        self._store.change(commands.Publish(calendar, keep))

    def published(self) -> PlanId | None:
        """See `LedgerOperations.published`."""
        return self._store.query(lambda book, _: None if book.calendar is None else book.calendar.plan_id)

    def mark_node(
        self,
        node: str,
        state: NodeState,
        *,
        why: str = "",
        begin: datetime | None = None,
        back: datetime | None = None,
    ) -> None:
        """See `LedgerOperations.mark_node`."""
        self._store.change(commands.MarkNode(node, state, why, begin, back))

    def nodes(self) -> dict[str, NodeState]:
        """See `LedgerOperations.nodes`."""
        return {name: outage.state for name, outage in self.outages().items() if outage.begin is None}

    def outages(self) -> dict[str, Outage]:
        """See `LedgerOperations.outages`."""
        marks = self._store.query(lambda book, _: book.nodes)
        return {name: mark.outage() for name, mark in changed_by(marks, self._now()).items()}

    def policy(self) -> Policy:
        """See `LedgerOperations.policy`."""
        return self._store.query(lambda book, _: book.policy)

    def set_policy(self, policy: Policy, *, by: str, why: str) -> None:
        """See `LedgerOperations.set_policy`."""
        self._store.change(commands.SetPolicy(policy, by, why))

    def policies(self) -> tuple[PolicyChange, ...]:
        """See `LedgerOperations.policies`."""
        return tuple(
            PolicyChange(at=from_us(at), by=document.by, why=document.why, policy=policy_from(document.body))
            for at, document in self._store.documents("policy")
        )

    def get(self, id: ReservationId) -> Reservation:
        """See `Ledger.get`."""
        require_text("id", id)
        return self._told([self._stored(id)], full=True)[0]

    def _stored(self, id: ReservationId) -> Entry:
        """Return a reservation as it stands, after what was due."""
        entry, due = self._store.get(id)
        if due is not None and due <= self._now():
            self.tick()
            entry, _ = self._store.get(id)
        return commands.require_entry(entry, id)

    def _told(self, entries: list[Entry], *, full: bool) -> list[Reservation]:
        """Return reservations as they are told: those that wait with the reason and, where unsure, a range of starts.

        With `full`, the reason names who stands in the way however long the line is.
        """
        waiting = [entry for entry in entries if entry.state.waits]
        if not waiting:
            return [entry.reservation() for entry in entries]
        ranges = self._ranges() if any(entry.promise is None for entry in waiting) else {}
        now = self._now()

        def work(book: Book, lookup: commands.Lookup) -> dict[ReservationId, Reservation]:
            found = (lookup(entry.id) or entry for entry in waiting)
            return {entry.id: told(book, entry, now, guess=ranges.get(entry.id), full=full) for entry in found}

        present = self._store.query(work)
        return [present.get(entry.id) or entry.reservation() for entry in entries]

    def _ranges(self) -> dict[ReservationId, tuple[int, int]]:
        """Return the range in which each gang that waits is expected to start; cached where the line is long.

        For 10,000 gangs it takes half a second: without the cache, many who ask would keep the ledger from its work.
        """
        with self._looking:
            ranges, until = self._expected
            start = time.monotonic()
            if start >= until:
                now, ratio = self._now(), self._ratio()
                ranges = self._store.query(lambda book, _: estimate(book, now, ratio=ratio))
                done = time.monotonic()
                kept = _KEPT * (done - start) if done - start > _QUICK_S else 0.0
                self._expected = ranges, done + kept
            return ranges

    def _ratio(self) -> dict[str, float]:
        """Return which part of its walltime each tenant's gangs have used lately; cached."""
        now = self._now()
        if self._learned is None or not 0 <= now - self._learned[0] < span_us(_RELEARNED):
            ended = self._store.select(since=now - span_us(_LEARNED_FROM), state=ReservationState.RELEASED)
            self._learned = now, learned_ratio(entry.reservation() for entry in ended)
        return self._learned[1]

    def find(self, request_key: str) -> Reservation:
        """See `Ledger.find`."""
        require_text("request_key", request_key, 1)
        return self.get(id_of(request_key))

    def _present(self, id: ReservationId) -> Reservation:
        return self._stored(id).reservation()

    def _explained(self, reservation: Reservation) -> Reservation:
        if not reservation.state.waits or reservation.reason is not None:
            return reservation
        return replace(reservation, reason=self.explain(reservation.id))

    def _subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        return self._store.subscribe(id, callback)

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `Ledger.subscribe`."""
        require_text("id", id)
        if not self._store.knows(id):
            commands.require_entry(None, id)
        return self._store.subscribe(id, callback)

    def calendar(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """See `Ledger.calendar`."""
        since, until = to_us(require_utc("start", start)), to_us(require_utc("end", end))
        if until <= since:
            raise InputError("end", end.isoformat(), f"must be later than start {start.isoformat()}")
        return self._store.query(lambda book, _: tuple(book.occupancy.free_capacity(since, until)))

    def explain(self, id: ReservationId) -> Reason | None:
        """See `Ledger.explain`."""
        require_text("id", id)
        now = self._now()

        def work(book: Book, lookup: commands.Lookup) -> Reason | None:
            entry = commands.require_entry(lookup(id), id)
            return admission.explain(book, entry, now) if entry.state.waits else None

        return self._store.query(work)

    def what_if(self, request: GangRequest) -> tuple[datetime | None, Reason | None]:
        """See `Ledger.what_if`."""
        submit, now, ratio = commands.Submit(request), self._now(), self._ratio()

        def work(book: Book, lookup: commands.Lookup) -> Reservation:
            with book.trial():
                entry = submit.enter(book, _PROSPECT, now)
                look_ahead(book, now)
                unsure = entry.state.waits and entry.promise is None
                guess = estimate(book, now, ratio=ratio).get(entry.id) if unsure else None
                return told(book, entry, now, guess=guess, full=True)

        reservation = self._store.query(work)
        return reservation.granted_at or reservation.eta, reservation.reason

    def history(self, since: datetime | None = None) -> tuple[Reservation, ...]:
        """See `Ledger.history`."""
        until = None if since is None else to_us(require_utc("since", since))
        return tuple(entry.reservation() for entry in self._store.select(since=until, state=None))

    def list(self, state: ReservationState | None = None, owner: str = "") -> tuple[Reservation, ...]:
        """See `Ledger.list`."""
        require_type("state", state, (ReservationState, NoneType), "a ReservationState")
        require_attempt(owner)
        entries = self._store.select(since=None, state=state, owner=owner)
        return tuple(self._told(entries, full=False))

    def audit(self, since: datetime | None = None, id: ReservationId | None = None) -> Iterator[AuditEvent]:
        """See `LedgerOperations.audit`."""
        begin = None if since is None else require_utc("since", since)
        if id is not None:
            require_text("id", id, 1)
        for event in self._store.audit():
            if (begin is None or event.at >= begin) and (id is None or id in event.rows):
                yield event if id is None else event.of(id)

    def replay(self) -> Replay:
        """See `LedgerOperations.replay`."""
        return self._store.replay()

    def compact(self, before: datetime) -> Compacted:
        """See `LedgerOperations.compact`."""
        return self._store.compact(to_us(require_utc("before", before)))

    def close(self) -> None:
        """See `Ledger.close`."""
        self._store.close()
