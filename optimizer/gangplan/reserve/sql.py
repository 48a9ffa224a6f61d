"""A ledger in a SQL database: each change is one transaction under the database's write lock.

The store keeps a book in memory and brings it up to date from the rows that others changed since (`change` numbers), so
that a call reads little. When a commit fails the book is dropped and read anew.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock, Semaphore
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, insert, or_, select, update
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from gangplan.clock import Clock
from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.reserve import codec
from gangplan.reserve.book import Book, Document
from gangplan.reserve.commands import Answer, Command, Lookup
from gangplan.reserve.dispatch import run_batch
from gangplan.reserve.entry import Entry
from gangplan.reserve.ledger import T, Work
from gangplan.reserve.moments import to_us
from gangplan.reserve.schema import HEAD, calendars, head, migrate, reservations, version_of
from gangplan.types import CapacityCalendar, Reservation, ReservationId, ReservationState, Token

_LIVE = tuple(state.value for state in ReservationState if not state.final)
_UPDATE = (
    update(reservations)
    .where(reservations.c.id == bindparam("row_id"))
    .values(
        {c.name: bindparam(c.name) for c in reservations.c if c.name not in ("id", "request_key", "tenant", "body")}
    )
)


_BATCH = 1000
"""So many calls go into one transaction at most."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits for its commit."""

    command: Command
    leads: bool = False
    done: bool = False
    answer: Answer | Exception = None
    ready: Semaphore = field(default_factory=lambda: Semaphore(0))


class SqlStore:
    """Keeps the rows of a ledger; `writer` begins transactions that hold the write lock, `reader` ones that do not."""

    def __init__(self, writer: Engine, reader: Engine, *, clock: Clock, shown: str) -> None:
        self._clock = clock
        self._writer = writer
        self._reader = reader
        self._shown = shown  # the URL without its password
        self._book: Book | None = None
        self._change = 0
        self._calendar: CapacityCalendar | None = None
        self._calendar_change = 0
        self._calls: deque[_Call] = deque()
        self._gate = Lock()
        self._led = False  # a caller is committing, and will answer or call the others
        self._lock = RLock()
        self._open()

    def _open(self) -> None:
        """Bring the schema to its head; quick when it is there already."""
        with self._reached():
            with self._reader.begin() as connection:
                if version_of(connection) == HEAD:
                    return
            logging.getLogger("alembic").setLevel(logging.WARNING)
            with self._writer.begin() as connection:
                migrate(connection)

    # ------------------------------------------------------------ Store

    def change(self, command: Command) -> Reservation | None:
        """See `Store.change`. Calls that come while one is committing are committed together by the next."""
        call = _Call(command)
        with self._gate:
            self._calls.append(call)
            call.leads, self._led = not self._led, True
        if not call.leads:
            self._await(call)
        if not call.done:
            self._lead(call)
        if isinstance(call.answer, BaseException):
            raise call.answer
        return call.answer

    def _await(self, call: _Call) -> None:
        """Wait until another's commit answers the call, or until it is called to lead the next."""
        try:
            call.ready.acquire()
        except BaseException:  # interrupted: nobody must wait for this caller to lead
            with self._gate:
                if call in self._calls:
                    self._calls.remove(call)
            if call.leads and not call.done:
                self._hand_over()
            raise

    def _lead(self, own: _Call) -> None:
        """Commit what has gathered, one's own call in it, then let the next caller lead."""
        try:
            while not own.done:
                self._commit_all()
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the caller that waits longest lead."""
        with self._gate:
            following = self._calls[0] if self._calls else None
            self._led = following is not None
            if following is not None:
                following.leads = True
                following.ready.release()

    def _commit_all(self) -> None:
        """Run all calls that wait as one transaction, and answer them once it is durable."""
        with self._lock:
            with self._gate:
                calls = [self._calls.popleft() for _ in range(min(len(self._calls), _BATCH))]
            answers: Sequence[Answer | Exception] = [UnavailableError("ledger: interrupted: try again")] * len(calls)
            try:
                answers = self._commit([call.command for call in calls])
            except Exception as error:  # noqa: BLE001 (not kept quiet: each caller gets it)
                answers = [error] * len(calls)
            finally:
                for call, answer in zip(calls, answers, strict=True):
                    call.answer, call.done = answer, True
                    call.ready.release()

    def _commit(self, batch: list[Command]) -> list[Answer]:
        """Run one transaction."""
        with self._reached(), self._writer.begin() as connection:
            book = self._fresh(connection)
            lookup = self._lookup(connection, book, [command.id for command in batch if command.id])
            answers = run_batch(book, lookup, batch, to_us(self._clock()))
            self._write(connection, book)
            connection.commit()
        return answers

    def look(self, work: Work[T]) -> T:
        """See `Store.look`."""
        with self._lock, self._reached(), self._reader.begin() as connection:
            book = self._fresh(connection)
            return work(book, self._lookup(connection, book, []))

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """See `Store.get`."""
        with self._reached(), self._reader.begin() as connection:
            due = connection.execute(select(head.c.due)).scalar()
            return next(iter(_read_many(connection, [id])), None), due

    def select(self, *, since: int | None, state: ReservationState | None) -> list[Entry]:
        """See `Store.select`."""
        query = select(reservations).order_by(reservations.c.arrival)
        if since is not None:
            query = query.where(or_(reservations.c.ended.is_(None), reservations.c.ended >= since))
        if state is not None:
            query = query.where(reservations.c.state == state.value)
        with self._reached(), self._reader.begin() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """See `Store.documents`."""
        with self._reached(), self._reader.begin() as connection:
            rows = connection.execute(select(calendars).order_by(calendars.c.change))
            return [(row.published, Document(kind, row.body)) for row in rows] if kind == "calendar" else []

    def close(self) -> None:
        """See `Store.close`."""
        self._writer.dispose()
        self._reader.dispose()

    # ------------------------------------------------------------ the book and its rows

    def _fresh(self, connection: Connection) -> Book:
        """Return the book with all that others have committed."""
        row = connection.execute(select(head)).one()
        book = self._book
        if book is None or row.calendar_change != self._calendar_change:
            book = self._read_book(connection, row)
        elif row.change != self._change:
            query = select(reservations).where(reservations.c.change > self._change)
            for changed in connection.execute(query):
                book.remove(ReservationId(changed.id))
                if changed.state in _LIVE:
                    book.add(_entry(changed))
        self._book, self._change = book, row.change
        book.arrivals, book.tokens = row.arrivals, row.tokens
        return book

    def _read_book(self, connection: Connection, row: Row[Any]) -> Book:
        """Read the whole book anew."""
        book = Book()
        for live in connection.execute(select(reservations).where(reservations.c.state.in_(_LIVE))):
            book.add(_entry(live))
        if row.calendar_change:
            body = select(calendars.c.body).where(calendars.c.change == row.calendar_change)
            book.load_calendar(codec.calendar_from(connection.execute(body).scalar_one()))
        self._calendar, self._calendar_change = book.calendar, row.calendar_change
        return book

    def _lookup(self, connection: Connection, book: Book, ids: list[ReservationId]) -> Lookup:
        """Return how reservations are found: in the book, else among the rows of `ids`, which are read at once."""
        missing = [id for id in ids if id not in book.live]
        rows = dict.fromkeys(missing) | {entry.id: entry for entry in _read_many(connection, missing)}

        def lookup(id: ReservationId) -> Entry | None:
            there = book.live.get(id) or book.changed.get(id)
            if there is not None:
                return there
            return rows[id] if id in rows else next(iter(_read_many(connection, [id])), None)

        return lookup

    def _write(self, connection: Connection, book: Book) -> None:
        """Write what changed, under the next change number."""
        published = book.calendar is not self._calendar and book.calendar is not None
        if not book.changed and not published:
            return
        change = self._change + 1
        new = [entry for entry in book.changed.values() if not entry.stored]
        known = [entry for entry in book.changed.values() if entry.stored]
        if new:
            connection.execute(insert(reservations), [_row(entry, change) for entry in new])
        if known:
            connection.execute(_UPDATE, [{**_row(entry, change), "row_id": entry.id} for entry in known])
        values: dict[str, Any] = {"change": change, "arrivals": book.arrivals, "tokens": book.tokens}
        if published and book.calendar is not None:
            body = codec.calendar_text(book.calendar)
            connection.execute(insert(calendars), {"change": change, "published": to_us(self._clock()), "body": body})
            values["calendar_change"] = change
        connection.execute(update(head).values(due=book.next_due(), **values))
        self._change, self._calendar = change, book.calendar
        self._calendar_change = values.get("calendar_change", self._calendar_change)
        for entry in new:
            entry.stored = True
        book.changed.clear()
        book.documents.clear()

    @contextmanager
    def _reached(self) -> Generator[None]:
        """Say in our words that the database cannot be used; drop the book, which may be ahead of the rows."""
        try:
            yield
        except OperationalError as error:
            self._book = None
            why = _one_line(error)
            raise UnavailableError(f"ledger: {self._shown} cannot be reached ({why}): try again") from error
        except DatabaseError as error:
            self._book = None
            raise InputError("ledger", self._shown, f"is no gangplan ledger ({_one_line(error)})") from error
        except (SQLAlchemyError, OSError) as error:
            self._book = None
            raise UnavailableError(f"ledger: {self._shown} cannot be used ({error}): try again") from error
        except GangplanError:
            raise
        except BaseException:
            self._book = None
            raise


def _one_line(error: DatabaseError) -> str:
    """Return what the database said, on one line."""
    return " ".join(str(error.orig).split())


def _read_many(connection: Connection, ids: list[ReservationId]) -> list[Entry]:
    """Return reservations from their rows."""
    found: list[Entry] = []
    for start in range(0, len(ids), 500):
        query = select(reservations).where(reservations.c.id.in_(ids[start : start + 500]))
        found.extend(_entry(row) for row in connection.execute(query))
    return found


def _row(entry: Entry, change: int) -> dict[str, Any]:
    """Return an entry as its row."""
    return {
        "id": entry.id,
        "request_key": entry.request.request_key,
        "tenant": entry.request.tenant,
        "body": entry.body,
        "arrival": entry.arrival,
        "submitted": entry.submitted,
        "state": entry.state.value,
        "token": entry.token,
        "pool": entry.pool,
        "slots": codec.slots_text(entry.slots),
        "granted": entry.granted,
        "hard_end": entry.hard_end,
        "expires": entry.expires,
        "ended": entry.ended,
        "first_eta": entry.first_eta,
        "plan": codec.plan_text(entry.plan),
        "reason": codec.reason_text(entry.reason),
        "change": change,
    }


def _entry(row: Row[Any]) -> Entry:
    """Return a row as an entry."""
    return Entry(
        id=ReservationId(row.id),
        request=codec.request_from(row.body),
        body=row.body,
        arrival=row.arrival,
        submitted=row.submitted,
        state=ReservationState(row.state),
        token=None if row.token is None else Token(row.token),
        pool=row.pool,
        slots=codec.slots_from(row.slots),
        granted=row.granted,
        hard_end=row.hard_end,
        expires=row.expires,
        ended=row.ended,
        first_eta=row.first_eta,
        plan=codec.plan_from(row.plan),
        reason=codec.reason_from(row.reason),
        stored=True,
    )
