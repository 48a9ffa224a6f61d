# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A ledger in a SQL database: each change is one transaction under the database's write lock.

The store keeps a book in memory and brings it up to date from the rows that others changed since (`change` numbers), so
that a call reads little. When a commit fails the book is dropped and read anew.

Where several processes are at work one of them leads (`leading`): the others put their commands into its inbox
(`letters`), and each of its transactions runs what has gathered there with what its own callers ask.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from threading import RLock
from typing import Any

from sqlalchemy import Connection, Row as SqlRow, func, or_, select, update

from gangplan.clock import Clock
from gangplan.errors import GangplanError, UnavailableError
from gangplan.reserve.admission import Document, Entry
from gangplan.reserve.audit import AuditEvent, Compacted, Replay
from gangplan.reserve.commands import Answer, Command, run_batch
from gangplan.reserve.ledger import T, Work
from gangplan.reserve.moments import SECOND, to_us
from gangplan.reserve.rows import entry_of
from gangplan.reserve.stores.calls import Call, Calls
from gangplan.reserve.stores.poller import Poller
from gangplan.reserve.stores.sql import command_queue, retention
from gangplan.reserve.stores.sql.book_rows import Pages, read_many
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.leading import BEAT_EVERY, LINGER, Head, LedElsewhere, Monotonic, Seat, Status
from gangplan.reserve.stores.sql.news import News
from gangplan.reserve.stores.sql.outbox import Outbox
from gangplan.reserve.stores.sql.schema import HEAD, documents, head, inbox, migrate, reservations, version_of
from gangplan.reserve.stores.wakes import NEWS
from gangplan.reserve.subscribers import Callback, Subscribers, Unsubscribe
from gangplan.types import Reservation, ReservationId, ReservationState

_log = logging.getLogger(__name__)

PENDING = object()
"""What `answer` returns while there is no answer yet."""

_KEEP = 10.0
"""Seconds after which an answer that nobody has read is thrown away: its client is gone."""

_LOOK = 1.0
"""Seconds between two looks at most, while somebody waits for news."""


class SqlStore:
    """Keeps the rows of a ledger.

    With `threads` off it starts none: commands then go by `post`, `step` and `answer`, one step at a time.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        threads: bool = True,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        self._clock = clock
        self._database = database
        self._threads = threads
        self._pages = Pages()
        self.shown = database.shown  # the URL without its password
        self.seat = Seat(monotonic)
        self._calls = Calls(self._serve)
        self._poller = Poller(self, database.wake, f"gangplan {database.shown}")
        self._outbox = Outbox(database, self.seat.name, monotonic)
        self._by_hand: dict[str, Call] = {}  # calls made by `post`
        self._subscribers = Subscribers()
        self._news = News(database, self._subscribers)
        self._ticked: tuple[int | None, float] = (None, 0.0)  # the due moment last ticked for, and when
        self._committed = -LINGER  # when a caller's commands were last committed
        self._marks: deque[tuple[float, int]] = deque()  # changes with answers, and when they were made
        self._stays = False
        self._lock = RLock()
        self._open()

    def _open(self) -> None:
        """Bring the schema to its head; quick when it is there already."""
        with self._database.reading() as connection:
            if version_of(connection) == HEAD:
                return
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with self._database.writing() as connection:
            migrate(connection)

    # ------------------------------------------------------------ changes

    def change(self, command: Command) -> Reservation | None:
        """See `Store.change`. Calls that come while one is committing are committed together by the next."""
        answer = self._calls.make(command)
        assert not isinstance(answer, GangplanError)  # noqa: S101 (`make` raises refusals)
        return answer

    def _serve(self, calls: Sequence[Call]) -> None:
        """Run the calls of this process's callers as one transaction, or send them to the leader."""
        with self._lock:
            if not (self._threads and self.seat.is_led_elsewhere()):
                try:
                    said = self._commit([call.command for call in calls])
                except LedElsewhere:
                    if not self._threads:
                        raise
                else:
                    for call, answer in zip(calls, said, strict=True):
                        call.settle(answer)
                    return
        self._outbox.send(calls)
        self._poller.need()

    def _commit(self, batch: list[Command], *, lead: bool = False, most: int = command_queue.AT_ONCE) -> list[Answer]:
        """Run one transaction: this process's commands and, where it leads, what has come to it."""
        with self._database.writing() as connection:
            was = connection.execute(select(head)).one()
            will = self.seat.enter(_head(was), lead=lead or self._is_crowded(was, batch))
            try:
                said, post = self._run(connection, was, will, batch, most)
                connection.commit()
            except BaseException:
                self._pages.drop()
                raise
        if self._pages.change != was.change:
            self._news.hand(self._pages.change)
        self._entered(will, batch, post)
        return said

    def _run(
        self, connection: Connection, was: SqlRow[Any], will: Head, batch: list[Command], most: int
    ) -> tuple[list[Answer], command_queue.Post]:
        """Bring the book up to date, run commands on it, and write what that changed."""
        book = self._pages.fresh(connection, was)
        post = command_queue.take(connection, most) if will.holder == self.seat.name else command_queue.Post()
        commands = [*batch, *(letter.command for letter in post.letters)]
        lookup = self._pages.lookup(connection, book, [command.id for command in commands if command.id])
        now = to_us(self._clock())
        said = run_batch(book, lookup, commands, now)
        self._news.draft(book.changed.values())
        theirs = list(zip(post.letters, said[len(batch) :], strict=True))
        self._pages.write(connection, was, will, commands, theirs, lookup, now)
        self._sweep(connection, will)
        if self._pages.change != was.change:
            self._database.tell(connection, NEWS)
        return said[: len(batch)], post

    def _is_crowded(self, row: SqlRow[Any], batch: list[Command]) -> bool:
        """Tell whether others commit as well, just now: then one should lead."""
        lately = self.seat.monotonic() - self._committed < LINGER
        return self._threads and bool(batch) and lately and row.change != self._pages.change

    def _entered(self, will: Head, batch: list[Command], post: command_queue.Post) -> None:
        """Take in that a transaction was committed."""
        now = self.seat.monotonic()
        if self.seat.entered(will) and self._threads:
            self._poller.need()  # somebody has to look into the inbox from now on
        if batch:
            self._committed = now
        if post.letters:
            self.seat.asked = now
            self._marks.append((now, self._pages.change))

    def _sweep(self, connection: Connection, will: Head) -> None:
        """Throw away answers that nobody came for; those of an earlier leader get the same time from now."""
        now = self.seat.monotonic()
        if will.holder == self.seat.name and will.term != self.seat.term:
            self._marks = deque([(now, self._pages.change - 1)])
        if not self._marks or now - self._marks[0][0] < _KEEP:
            return
        upto = 0
        while self._marks and now - self._marks[0][0] >= _KEEP:
            _, upto = self._marks.popleft()
        command_queue.sweep(connection, upto)

    # ------------------------------------------------------------ by hand

    def post(self, command: Command) -> str:
        """Put a command into the inbox, and return the call that `answer` is asked about."""
        id, call = self._outbox.post(command)
        self._by_hand[id] = call
        return id

    def answer(self, call: str) -> Answer | object:
        """Return the answer to a call that was posted, once, or `PENDING`; a refusal is returned, not raised."""
        posted = self._by_hand[call]
        if not posted.done:
            self._outbox.collect()
        if not posted.done:
            return PENDING
        return self._by_hand.pop(call).answer

    # ------------------------------------------------------------ looking

    def step(self, *, lead: bool = False) -> float | None:
        """See `Polled.step`: look once; serve where this process leads or should (`lead`: where it may at all)."""
        row, waits = self._look()
        if self._should_serve(row, waits, lead or self._stays):
            self._round(lead=True)
        elif self._is_due(row) and row.holder is None and len(self._subscribers):
            self._round(lead=False)
        elif self._may_leave(waits, lead or self._stays):
            self._resign()
        if len(self._outbox):
            self._outbox.collect()
            self._outbox.give_up()
        self._news.tell()
        return self._pause(row)

    def _look(self) -> tuple[SqlRow[Any], bool]:
        """Return the head row, and whether commands wait in the inbox."""
        with self._database.reading() as connection:
            row = connection.execute(select(head)).one()
            waits = row.holder in (None, self.seat.name) and command_queue.has_post(connection)
        self.seat.see(_head(row))
        return row, waits

    def _should_serve(self, row: SqlRow[Any], waits: bool, stays: bool) -> bool:
        """Tell whether it is for this process to run what has come, or to say that it is alive."""
        if self.seat.leads:
            beat = self.seat.monotonic() - self.seat.beaten >= BEAT_EVERY
            return waits or beat or self._is_due(row)
        if not self.seat.may_take(_head(row)):
            return False
        gone = row.holder is not None and len(self._subscribers) > 0
        return stays or len(self._outbox) > 0 or gone

    def _is_due(self, row: SqlRow[Any]) -> bool:
        """Tell whether time has changed something; what a tick left as it was is not ticked for again at once."""
        if row.due is None or row.due > to_us(self._clock()):
            return False
        due, at = self._ticked
        return row.due != due or self.seat.monotonic() - at > _LOOK

    def _round(self, *, lead: bool) -> None:
        """Commit once for others; a command that breaks the leader is found and refused."""
        with self._lock:
            try:
                self._commit([], lead=lead)
            except LedElsewhere:
                return
            except GangplanError:
                raise
            except Exception:  # noqa: BLE001 (a bug of ours must not stop the line)
                _log.exception("commands failed together and are run one by one")
                self._one_by_one()
            self._ticked = (self._pages.due, self.seat.monotonic())

    def _one_by_one(self) -> None:
        """Run what is in the inbox singly; answer the first that fails as an error of ours, so that the rest go on."""
        try:
            for _ in range(command_queue.AT_ONCE):
                self._commit([], lead=True, most=1)
        except GangplanError:
            raise
        except Exception as error:  # noqa: BLE001 (its caller gets it)
            _log.exception("a command cannot be run")
            self._refuse_first(error)

    def _refuse_first(self, error: Exception) -> None:
        """Take the oldest command out and answer that it failed."""
        with self._database.writing() as connection:
            was = connection.execute(select(head)).one()
            self.seat.enter(_head(was), lead=False)
            self._pages.drop()
            for letter in command_queue.take(connection, 1).letters:
                said = GangplanError(f"ledger: {letter.command.name} failed in its leader: {error!r}")
                command_queue.answer(connection, was.change + 1, [(letter, command_queue.answer_text(said, {}))])
            connection.execute(update(head).values(change=was.change + 1))

    def _may_leave(self, waits: bool, stays: bool) -> bool:
        """Tell whether nobody needs this leader any more."""
        return self.seat.leads and not waits and not stays and self.seat.monotonic() - self.seat.asked > LINGER

    def _resign(self) -> None:
        """Lead no more, so that the next one need not wait for the heartbeat to stand still."""
        with self._lock, self._database.writing() as connection:
            was = connection.execute(select(head)).one()
            if (was.term, was.holder) == (self.seat.term, self.seat.name):
                connection.execute(update(head).values(holder=None, beat=was.beat + 1))
                self._database.tell(connection, NEWS)
        self.seat.left()

    def _pause(self, row: SqlRow[Any]) -> float | None:
        """Return the seconds to the next look; None when nobody waits for anything."""
        if self.seat.leads:
            longest = BEAT_EVERY
        elif len(self._outbox) or self._stays:
            longest = BEAT_EVERY / 2
        elif len(self._subscribers):
            longest = _LOOK
        else:
            return None
        if row.due is None or self._ticked[0] == row.due:
            return longest
        return min(longest, max(0.0, (row.due - to_us(self._clock())) / SECOND))

    def trouble(self, error: BaseException) -> None:
        """See `Polled.trouble`."""
        self._outbox.trouble(error)

    # ------------------------------------------------------------ news

    def knows(self, id: ReservationId) -> bool:
        """See `Store.knows`."""
        if self._pages.knows(id):
            return True
        with self._database.reading() as connection:
            return bool(read_many(connection, [id]))

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `Store.subscribe`."""
        unsubscribe = self._subscribers.add(id, callback)
        if self._threads:
            self._poller.need()
        return unsubscribe

    # ------------------------------------------------------------ reading

    def look(self, work: Work[T]) -> T:
        """See `Store.look`."""
        with self._lock, self._database.reading() as connection:
            book = self._pages.fresh(connection, connection.execute(select(head)).one())
            return work(book, self._pages.lookup(connection, book, []))

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """See `Store.get`."""
        with self._database.reading() as connection:
            due = connection.execute(select(head.c.due)).scalar()
            return next(iter(read_many(connection, [id])), None), due

    def select(self, *, since: int | None, state: ReservationState | None) -> list[Entry]:
        """See `Store.select`."""
        query = select(reservations).order_by(reservations.c.arrival)
        if since is not None:
            query = query.where(or_(reservations.c.ended.is_(None), reservations.c.ended >= since))
        if state is not None:
            query = query.where(reservations.c.state == state.value)
        with self._database.reading() as connection:
            return [entry_of(row) for row in connection.execute(query).mappings()]

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """See `Store.documents`."""
        query = select(documents).where(documents.c.kind == kind).order_by(documents.c.change, documents.c.place)
        with self._database.reading() as connection:
            return [(row.at, Document(kind, row.body, row.by, row.why)) for row in connection.execute(query)]

    # ------------------------------------------------------------ audit log

    def audit(self) -> Iterator[AuditEvent]:
        """See `Store.audit`. Each page is a transaction of its own, so that a slow reader holds nothing up."""
        after = -1
        while True:
            with self._database.reading() as connection:
                events = retention.read_page(connection, after)
            if not events:
                return
            yield from events
            after = events[-1].change

    def replay(self) -> Replay:
        """See `Store.replay`."""
        with self._database.reading() as connection:
            return retention.check(connection)

    def compact(self, before: int) -> Compacted:
        """See `Store.compact`; whoever leads need not know."""
        with self._lock, self._database.writing() as connection:
            done = retention.compact(connection, before, to_us(self._clock()))
            self._database.tell(connection, NEWS)
        return done

    # ------------------------------------------------------------ leading for good

    def lead(self) -> None:
        """Lead from now on, until the store is closed, as soon as nobody else does."""
        self._stays = True
        self._poller.need()

    def status(self) -> Status:
        """Return how the ledger stands."""
        counts = select(reservations.c.state, func.count()).group_by(reservations.c.state)
        with self._database.reading() as connection:
            row = connection.execute(select(head)).one()
            waits = connection.execute(select(func.count()).select_from(inbox)).scalar_one()
            states = {str(state): int(count) for state, count in connection.execute(counts).all()}
        mine = row.holder == self.seat.name
        return Status(leader=row.holder, leads=mine, term=row.term, change=row.change, inbox=waits, states=states)

    def close(self) -> None:
        """See `Store.close`."""
        self._poller.close()
        try:
            if self.seat.leads:
                self._resign()
        except UnavailableError:
            _log.info("the ledger could not be told that its leader left: the next one waits for its heartbeat")
        finally:
            self.trouble(RuntimeError("the ledger was closed"))
            self._database.dispose()


def _head(row: SqlRow[Any]) -> Head:
    return Head(row.term, row.holder, row.beat)
