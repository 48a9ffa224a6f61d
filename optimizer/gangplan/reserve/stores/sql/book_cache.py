"""The book that a process keeps in memory, brought up to date from the rows and written back to them.

The changes of a ledger are numbered in order, since each transaction holds the write lock: a process reads the rows of
the changes that it has not seen, and writes its own with an audit row under the next number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from gangplan.errors import UnavailableError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Entry
from gangplan.reserve.audit import text_of
from gangplan.reserve.codec import COLUMNS, Row, changes, entry_of, row_of
from gangplan.reserve.commands import Command, Lookup, Result
from gangplan.reserve.policy import Policy
from gangplan.reserve.stores.sql import command_queue
from gangplan.reserve.stores.sql.command_queue import QueuedCommand
from gangplan.reserve.stores.sql.leadership import Leader
from gangplan.reserve.stores.sql.queries import LIVE, Head, live_rows, newest_document, read_entries, rows_after
from gangplan.reserve.stores.sql.schema import audit, documents, head, reservations
from gangplan.types import Reservation, ReservationId

_FIXED = ("id", "request_key", "tenant", "body", "arrival", "submitted")
_UPDATE = (
    update(reservations)
    .where(reservations.c.id == bindparam("row_id"))
    .values({column.name: bindparam(column.name) for column in reservations.c if column.name not in _FIXED})
)


class BookCache:
    """The book as this process knows it, and the number of the last change that it has seen."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._written: dict[ReservationId, tuple[Any, ...]] = {}  # the rows of live reservations, as last written
        self._documents_change: int = 0
        self.change: int = 0
        self.due: int | None = None

    def drop(self) -> None:
        """Forget the book, which may be ahead of the rows."""
        self._book = None

    # ------------------------------------------------------------ reading

    def knows(self, id: ReservationId) -> bool:
        """Tell whether a reservation was live when this process last looked."""
        return self._book is not None and id in self._written

    def updated(self, connection: Connection, now: Head) -> Book:
        """Return the book with all that others have committed."""
        try:
            return self._updated(connection, now)
        except BaseException:
            self.drop()
            raise

    def _updated(self, connection: Connection, now: Head) -> Book:
        book = self._book
        if book is None or now.documents_change != self._documents_change or now.change < self.change:
            book = self._read_book(connection, now)
        elif now.change != self.change:
            for row in rows_after(connection, self.change):
                id = ReservationId(row["id"])
                book.remove(id)
                self._written.pop(id, None)
                if row["state"] in LIVE:
                    self._add(book, row)
        self._book, self.change = book, now.change
        book.arrivals, book.tokens = now.arrivals, now.tokens
        return book

    def _add(self, book: Book, row: Any) -> None:
        """Add a live reservation to the book."""
        entry = entry_of(row)
        self._written[entry.id] = tuple(row[name] for name in COLUMNS)
        book.add(entry)

    def _read_book(self, connection: Connection, now: Head) -> Book:
        """Read the whole book."""
        calendar, policy, nodes = (newest_document(connection, kind) for kind in ("calendar", "policy", "nodes"))
        book = Book()
        book.load(
            codec.calendar_from(calendar) if calendar else None,
            codec.policy_from(policy) if policy else Policy(),
            codec.nodes_from(nodes) if nodes else {},
        )
        self._written.clear()
        for row in live_rows(connection):
            self._add(book, row)
        self._documents_change = now.documents_change
        return book

    def lookup(self, connection: Connection, book: Book, commands: Sequence[Command] = ()) -> Lookup:
        """Return how to find reservations: in the book, else in the rows; those of `commands` are read at once."""
        missing = [command.subject for command in commands if command.subject and command.subject not in book.live]
        rows = dict.fromkeys(missing) | {entry.id: entry for entry in read_entries(connection, missing)}

        def lookup(id: ReservationId) -> Entry | None:
            cached = book.live.get(id) or book.changed.get(id)
            if cached is not None:
                return cached
            return rows[id] if id in rows else next(iter(read_entries(connection, [id])), None)

        return lookup

    # ------------------------------------------------------------ writing

    def write(
        self,
        connection: Connection,
        before: Head,
        leader: Leader,
        commands: Sequence[Command],
        results: Sequence[tuple[QueuedCommand, Result]],
        lookup: Lookup,
        now: int,
    ) -> None:
        """Write what has changed and the results for other processes, under the next change number, if any."""
        book = self._book
        assert book is not None  # noqa: S101
        values: dict[str, Any] = leader._asdict() if leader != before.leader else {}
        if book.changed or book.documents or results:
            change = self.change + 1
            values |= {"change": change, "arrivals": book.arrivals, "tokens": book.tokens}
            rows = self._write_rows(connection, book, change)
            if book.changed or book.documents:
                self._write_audit(connection, (change, now, leader.term), commands, rows)
            if book.documents:
                _write_documents(connection, book, change, now)
                values["documents_change"] = change
            texts = [(queued, _result_text(result, rows, lookup)) for queued, result in results]
            command_queue.write_results(connection, change, texts)
        due = book.next_due()
        if due != before.due:
            values["due"] = due
        if values:
            updated = connection.execute(update(head).where(head.c.term == before.term).values(values))
            if updated.rowcount != 1:
                raise UnavailableError("ledger: another process leads it now: try again")
        self.change = values.get("change", self.change)
        self._documents_change = values.get("documents_change", self._documents_change)
        self.due = due
        _mark_written(book)

    def _write_rows(self, connection: Connection, book: Book, change: int) -> dict[ReservationId, Row]:
        """Write the reservations that have changed, and return their rows."""
        rows = {entry.id: row_of(entry) for entry in book.changed.values()}
        new = [{**rows[entry.id], "change": change} for entry in book.changed.values() if not entry.stored]
        old = [{**rows[e.id], "change": change, "row_id": e.id} for e in book.changed.values() if e.stored]
        if new:
            connection.execute(insert(reservations), new)
        if old:
            connection.execute(_UPDATE, old)
        return rows

    def _write_audit(
        self,
        connection: Connection,
        stamp: tuple[int, int, int],
        commands: Sequence[Command],
        rows: dict[ReservationId, Row],
    ) -> None:
        """Write which columns changed and by which commands; `stamp` is the change, its moment and its term."""
        changed = {id: changes(self._written.get(id), row) for id, row in rows.items()}
        change, at, term = stamp
        body = text_of([(command.name, command.subject) for command in commands], changed)
        connection.execute(insert(audit), {"change": change, "at": at, "term": term, "body": body})
        for id, row in rows.items():
            if row["state"] in LIVE:
                self._written[id] = tuple(row.values())
            else:
                self._written.pop(id, None)


def _write_documents(connection: Connection, book: Book, change: int, now: int) -> None:
    """Write calendars, policies and the states of nodes."""
    rows = [
        {"change": change, "place": place, "at": now, **document._asdict()}
        for place, document in enumerate(book.documents)
    ]
    connection.execute(insert(documents), rows)


def _mark_written(book: Book) -> None:
    """Note that what has changed is written; if the commit fails, the book is dropped."""
    for entry in book.changed.values():
        entry.stored = True
    book.changed.clear()
    book.documents.clear()


def _result_text(result: Result, rows: dict[ReservationId, Row], lookup: Lookup) -> str:
    """Return a result as text; a reservation as its row."""
    row: Row = {}
    if isinstance(result, Reservation):
        entry = None if result.id in rows else lookup(result.id)
        row = rows[result.id] if entry is None else row_of(entry)
        row = {**row, "reason": codec.reason_text(result.reason)}
    return command_queue.result_text(result, row)
