# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A book and its rows, kept in step: reads what others changed, writes what this process changed, with its audit row.

`change` numbers order all changes of a ledger, since each transaction holds the write lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row as SqlRow, bindparam, insert, select, update

from gangplan.errors import UnavailableError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Entry
from gangplan.reserve.audit import text_of
from gangplan.reserve.commands import Answer, Command, Lookup
from gangplan.reserve.policy import Policy
from gangplan.reserve.rows import COLUMNS, Row, changes, entry_of, row_of
from gangplan.reserve.stores.sql import command_queue
from gangplan.reserve.stores.sql.command_queue import Letter
from gangplan.reserve.stores.sql.leading import Head
from gangplan.reserve.stores.sql.schema import audit, documents, head, reservations
from gangplan.types import Reservation, ReservationId, ReservationState

LIVE = tuple(state.value for state in ReservationState if not state.final)

_FIXED = ("id", "request_key", "tenant", "body", "arrival", "submitted")
_UPDATE = (
    update(reservations)
    .where(reservations.c.id == bindparam("row_id"))
    .values({c.name: bindparam(c.name) for c in reservations.c if c.name not in _FIXED})
)


class Pages:
    """The book as this process knows it, and the numbers of the changes that it has seen."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._written: dict[ReservationId, tuple[Any, ...]] = {}  # the rows of what is live, as they were last written
        self._documents_change = 0
        self.change = 0
        self.due: int | None = None

    def drop(self) -> None:
        """Forget the book, which may be ahead of the rows."""
        self._book = None

    # ------------------------------------------------------------ reading

    def knows(self, id: ReservationId) -> bool:
        """Tell whether a reservation was live when this process last looked."""
        return self._book is not None and id in self._written

    def fresh(self, connection: Connection, row: SqlRow[Any]) -> Book:
        """Return the book with all that others have committed."""
        try:
            return self._fresh(connection, row)
        except BaseException:
            self.drop()
            raise

    def _fresh(self, connection: Connection, row: SqlRow[Any]) -> Book:
        """Bring the book up to date."""
        book = self._book
        if book is None or row.documents_change != self._documents_change or row.change < self.change:
            book = self._read_book(connection, row)
        elif row.change != self.change:
            query = select(reservations).where(reservations.c.change > self.change)
            for changed in connection.execute(query).mappings():
                book.remove(ReservationId(changed["id"]))
                self._written.pop(ReservationId(changed["id"]), None)
                if changed["state"] in LIVE:
                    self._take_in(book, changed)
        self._book, self.change = book, row.change
        book.arrivals, book.tokens = row.arrivals, row.tokens
        return book

    def _take_in(self, book: Book, row: Any) -> None:
        """Add a live reservation to the book."""
        entry = entry_of(row)
        self._written[entry.id] = tuple(row[name] for name in COLUMNS)
        book.add(entry)

    def _read_book(self, connection: Connection, row: SqlRow[Any]) -> Book:
        """Read the whole book anew."""
        book = Book()
        newest = newest_documents(connection)
        calendar, policy, nodes = (newest.get(kind) for kind in ("calendar", "policy", "nodes"))
        book.load(
            codec.calendar_from(calendar) if calendar else None,
            codec.policy_from(policy) if policy else Policy(),
            codec.nodes_from(nodes) if nodes else {},
        )
        self._written.clear()
        live = select(reservations).where(reservations.c.state.in_(LIVE))
        for changed in connection.execute(live).mappings():
            self._take_in(book, changed)
        self._documents_change = row.documents_change
        return book

    def lookup(self, connection: Connection, book: Book, ids: list[ReservationId]) -> Lookup:
        """Return how reservations are found: in the book, else among the rows of `ids`, which are read at once."""
        missing = [id for id in ids if id not in book.live]
        rows = dict.fromkeys(missing) | {entry.id: entry for entry in read_many(connection, missing)}

        def lookup(id: ReservationId) -> Entry | None:
            there = book.live.get(id) or book.changed.get(id)
            if there is not None:
                return there
            return rows[id] if id in rows else next(iter(read_many(connection, [id])), None)

        return lookup

    # ------------------------------------------------------------ writing

    def write(
        self,
        connection: Connection,
        was: SqlRow[Any],
        will: Head,
        commands: Sequence[Command],
        said: Sequence[tuple[Letter, Answer]],
        lookup: Lookup,
        now: int,
    ) -> None:
        """Write what changed and what is answered, under the next change number, if there is anything."""
        book = self._book
        assert book is not None  # noqa: S101
        values: dict[str, Any] = will._asdict() if will != (was.term, was.holder, was.beat) else {}
        if book.changed or book.documents or said:
            change = self.change + 1
            values |= {"change": change, "arrivals": book.arrivals, "tokens": book.tokens}
            rows = self._write_rows(connection, book, change)
            if book.changed or book.documents:
                self._write_audit(connection, change, will.term, commands, rows, now)
            if book.documents:
                self._write_documents(connection, book, change, now)
                values["documents_change"] = change
            command_queue.answer(connection, change, [(to, _answer_text(one, rows, lookup)) for to, one in said])
        due = book.next_due()
        if due != was.due:
            values["due"] = due
        if values:
            done = connection.execute(update(head).where(head.c.term == was.term).values(values))
            if done.rowcount != 1:
                raise UnavailableError("ledger: another process leads it now: try again")
        self.change = values.get("change", self.change)
        self._documents_change = values.get("documents_change", self._documents_change)
        self.due = due
        self._settle(book)

    def _write_rows(self, connection: Connection, book: Book, change: int) -> dict[ReservationId, Row]:
        """Write the reservations that changed, and return their rows."""
        rows = {entry.id: row_of(entry) for entry in book.changed.values()}
        new = [{**rows[entry.id], "change": change} for entry in book.changed.values() if not entry.stored]
        known = [
            {**rows[entry.id], "change": change, "row_id": entry.id} for entry in book.changed.values() if entry.stored
        ]
        if new:
            connection.execute(insert(reservations), new)
        if known:
            connection.execute(_UPDATE, known)
        return rows

    def _write_audit(
        self,
        connection: Connection,
        change: int,
        term: int,
        commands: Sequence[Command],
        rows: dict[ReservationId, Row],
        now: int,
    ) -> None:
        """Write which columns changed, and by which commands; keep what is live to compare the next change with."""
        changed = {id: changes(self._written.get(id), row) for id, row in rows.items()}
        connection.execute(
            insert(audit), {"change": change, "at": now, "term": term, "body": text_of(commands, changed)}
        )
        for id, row in rows.items():
            if row["state"] in LIVE:
                self._written[id] = tuple(row.values())
            else:
                self._written.pop(id, None)

    def _write_documents(self, connection: Connection, book: Book, change: int, now: int) -> None:
        """Write calendars, policies and nodes' states."""
        rows = [
            {"change": change, "place": place, "at": now, **document._asdict()}
            for place, document in enumerate(book.documents)
        ]
        connection.execute(insert(documents), rows)

    def _settle(self, book: Book) -> None:
        """Note that what changed is written; should the commit fail, the book is dropped."""
        for entry in book.changed.values():
            entry.stored = True
        book.changed.clear()
        book.documents.clear()


def _answer_text(said: Answer, rows: dict[ReservationId, Row], lookup: Lookup) -> str:
    """Return an answer as it travels; a reservation as its row."""
    if isinstance(said, Reservation) and said.id not in rows:
        entry = lookup(said.id)
        assert entry is not None  # noqa: S101
        return command_queue.answer_text(said, {said.id: row_of(entry)})
    return command_queue.answer_text(said, rows)


def read_many(connection: Connection, ids: list[ReservationId]) -> list[Entry]:
    """Return reservations from their rows."""
    found: list[Entry] = []
    for start in range(0, len(ids), 500):
        query = select(reservations).where(reservations.c.id.in_(ids[start : start + 500]))
        found.extend(entry_of(row) for row in connection.execute(query).mappings())
    return found


def newest_documents(connection: Connection) -> dict[str, str]:
    """Return the newest text of each kind of document."""
    found: dict[str, str] = {}
    for kind in ("calendar", "policy", "nodes"):
        query = select(documents.c.body).where(documents.c.kind == kind)
        newest = query.order_by(documents.c.change.desc(), documents.c.place.desc()).limit(1)
        if (body := connection.execute(newest).scalar()) is not None:
            found[kind] = body
    return found
