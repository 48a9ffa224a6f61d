"""A ledger that lives and dies with its process: for tests and for trying out."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import takewhile
from threading import RLock
from typing import Any

from gangplan.clock import SECOND, Clock, from_us, to_us
from gangplan.errors import GangplanError
from gangplan.reserve.admission import Book, Document, Entry, told as as_told
from gangplan.reserve.audit import AuditEvent, Compacted, Replay, compare, replay
from gangplan.reserve.codec import Row, changes, row_of
from gangplan.reserve.commands import BookQuery, Command, T, Tick, run_batch
from gangplan.reserve.stores.poller import Poller
from gangplan.reserve.stores.wakeups import LocalWakeup
from gangplan.reserve.subscribers import Callback, Subscribers, Unsubscribe
from gangplan.types import Reservation, ReservationId, ReservationState, is_owned

_LOOK = 0.25
"""Seconds between two looks at the clock at most: it may be one that is set by hand."""


class MemoryStore:
    """Keeps the book itself, and what is final beside it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._book = Book()
        self._rows: dict[ReservationId, Entry] = {}
        self._written: dict[ReservationId, tuple[Any, ...]] = {}
        self._documents: list[tuple[int, Document]] = []
        self._log: list[AuditEvent] = []
        self._change = 0
        self._changed: set[ReservationId] = set()
        self._subscribers = Subscribers()
        self._poller = Poller(self, LocalWakeup(), "gangplan memory")
        self._lock = RLock()

    def change(self, command: Command) -> Reservation | None:
        """See `LedgerStore.change`."""
        with self._lock:
            now = to_us(self._clock())
            (result,) = run_batch(self._book, self._rows.get, [command], now)
            if self._book.changed or self._book.documents:
                self._note(command, now)
        if len(self._subscribers):
            self._poller.need()
        if isinstance(result, GangplanError):
            raise result
        return result

    def _note(self, command: Command, now: int) -> None:
        """Keep what a command changed, and say so in the log."""
        book, self._change = self._book, self._change + 1
        rows = {entry.id: row_of(entry) for entry in book.changed.values()}
        changed = {id: changes(self._written.get(id), row) for id, row in rows.items()}
        self._log.append(self._event(now, (command.name, command.subject), changed))
        self._written.update((id, tuple(row.values())) for id, row in rows.items())
        self._rows.update(book.changed)
        self._documents.extend((now, document) for document in book.documents)
        if len(self._subscribers):
            self._changed.update(rows)
        book.changed.clear()
        book.documents.clear()

    def query(self, query: BookQuery[T]) -> T:
        """See `LedgerStore.query`."""
        with self._lock:
            return query(self._book, self._rows.get)

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """See `LedgerStore.get`."""
        with self._lock:
            entry = self._rows.get(id)
            return (None if entry is None else copy(entry)), self._book.next_due()

    def select(self, *, since: int | None, state: ReservationState | None, owner: str = "") -> list[Entry]:
        """See `LedgerStore.select`."""
        with self._lock:
            rows = [
                copy(entry)
                for entry in self._rows.values()
                if (since is None or entry.ended is None or entry.ended >= since)
                and (state is None or entry.state is state)
                and is_owned(entry.attempt, owner)
            ]
        return sorted(rows, key=lambda entry: entry.arrival)

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """See `LedgerStore.documents`."""
        with self._lock:
            return [(at, document) for at, document in self._documents if document.kind == kind]

    # ------------------------------------------------------------ audit log

    def audit(self) -> Iterator[AuditEvent]:
        """See `LedgerStore.audit`."""
        with self._lock:
            return iter(list(self._log))

    def _event(self, at: int, command: tuple[str, ReservationId | None], rows: dict[ReservationId, Row]) -> AuditEvent:
        return AuditEvent(change=self._change, at=from_us(at), term=0, commands=(command,), rows=rows)

    def replay(self) -> Replay:
        """See `LedgerStore.replay`."""
        with self._lock:
            return compare(self._log, {id: row_of(entry) for id, entry in self._rows.items()})

    def compact(self, before: int) -> Compacted:
        """See `LedgerStore.compact`."""
        with self._lock:
            old = list(takewhile(lambda event: event.at < from_us(before), self._log))
            kept, rows = self._log[len(old) :], replay(old)
            ended = {id: self._rows[id].ended for id in rows if self._rows[id].state.final}
            named = {id for event in kept for id in event.rows}
            gone = [id for id, at in ended.items() if at is not None and at < before and id not in named]
            if not old or (old[-1].base and not gone):
                return Compacted(reservations=0, changes=0)
            for id in gone:
                del rows[id], self._rows[id], self._written[id]
            self._change += 1
            note = self._event(to_us(self._clock()), ("compact", None), {})
            self._log = [replace(old[-1], commands=(), rows=rows, base=True), *kept, note]
        return Compacted(reservations=len(gone), changes=len([event for event in old if not event.base]))

    # ------------------------------------------------------------ subscribers

    def knows(self, id: ReservationId) -> bool:
        """See `LedgerStore.knows`."""
        with self._lock:
            return id in self._rows

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `LedgerStore.subscribe`."""
        unsubscribe = self._subscribers.add(id, callback)
        self._poller.need()
        return unsubscribe

    def step(self) -> float | None:
        """See `Polled.step`."""
        if not len(self._subscribers):
            return None
        with self._lock:
            due = self._book.next_due()
        if due is not None and due <= to_us(self._clock()):
            self.change(Tick())
        with self._lock:
            fresh, changed, self._changed = self._subscribers.take_fresh(), self._changed, set()
            told = (changed & self._subscribers.ids()) | fresh.keys()
            now, rows = to_us(self._clock()), self._rows
            reservations = [as_told(self._book, rows[id], now) for id in told if id in rows]
            due = self._book.next_due()
        for reservation in reservations:
            self._subscribers.tell(reservation, None if reservation.id in changed else fresh[reservation.id])
        return _LOOK if due is None else min(_LOOK, max(0.0, (due - to_us(self._clock())) / SECOND))

    def failed(self, error: BaseException) -> None:
        """See `Polled.failed`."""

    def close(self) -> None:
        """See `LedgerStore.close`."""
        self._poller.close()
