"""A ledger that lives and dies with its process: for tests and for trying out."""

from __future__ import annotations

from copy import copy
from threading import RLock

from gangplan.clock import Clock
from gangplan.errors import GangplanError
from gangplan.reserve.book import Book, Document
from gangplan.reserve.commands import Command
from gangplan.reserve.dispatch import run_batch
from gangplan.reserve.entry import Entry
from gangplan.reserve.ledger import T, Work
from gangplan.reserve.moments import to_us
from gangplan.types import Reservation, ReservationId, ReservationState


class MemoryStore:
    """Keeps the book itself, and what is final beside it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._book = Book()
        self._rows: dict[ReservationId, Entry] = {}
        self._documents: list[tuple[int, Document]] = []
        self._lock = RLock()

    def change(self, command: Command) -> Reservation | None:
        """See `Store.change`."""
        with self._lock:
            now = to_us(self._clock())
            (answer,) = run_batch(self._book, self._rows.get, [command], now)
            self._rows.update(self._book.changed)
            self._documents.extend((now, document) for document in self._book.documents)
            self._book.documents.clear()
            self._book.changed.clear()
        if isinstance(answer, GangplanError):
            raise answer
        return answer

    def look(self, work: Work[T]) -> T:
        """See `Store.look`."""
        with self._lock:
            return work(self._book, self._rows.get)

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """See `Store.get`."""
        with self._lock:
            entry = self._rows.get(id)
            return (None if entry is None else copy(entry)), self._book.next_due()

    def select(self, *, since: int | None, state: ReservationState | None) -> list[Entry]:
        """See `Store.select`."""
        with self._lock:
            rows = [
                copy(entry)
                for entry in self._rows.values()
                if (since is None or entry.ended is None or entry.ended >= since)
                and (state is None or entry.state is state)
            ]
        return sorted(rows, key=lambda entry: entry.arrival)

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """See `Store.documents`."""
        with self._lock:
            return [(at, document) for at, document in self._documents if document.kind == kind]

    def close(self) -> None:
        """See `Store.close`."""
