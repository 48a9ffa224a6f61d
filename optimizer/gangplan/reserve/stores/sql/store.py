"""A ledger in a SQL database: each change is one transaction under the database's write lock.

A process keeps the book in memory and reads only the rows that others have changed since (`book_cache`), so that a
call reads little. When a commit fails, the book is dropped and read again.

Where several processes work on a ledger, one of them leads (`leadership`). The others put their commands into its queue
(`command_queue`), and each of its transactions runs what is in the queue together with the calls of its own process.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from threading import RLock

from sqlalchemy import Connection, update

from gangplan.clock import SECOND, Clock, to_us
from gangplan.errors import GangplanError, UnavailableError
from gangplan.reserve.admission import Document, Entry, told
from gangplan.reserve.audit import AuditEvent, Compacted, Replay
from gangplan.reserve.commands import BookQuery, Command, Result, T, run_batch
from gangplan.reserve.stores.group_commit import Call, GroupCommit
from gangplan.reserve.stores.poller import Poller
from gangplan.reserve.stores.sql import command_queue, queries, retention
from gangplan.reserve.stores.sql.book_cache import BookCache
from gangplan.reserve.stores.sql.change_feed import ChangeFeed
from gangplan.reserve.stores.sql.command_queue import PendingCalls, QueuedCommand
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.leadership import (
    BEAT_EVERY,
    LINGER,
    Leader,
    Leadership,
    LedElsewhere,
    Monotonic,
    Status,
)
from gangplan.reserve.stores.sql.queries import Head, read_head, read_look
from gangplan.reserve.stores.sql.schema import HEAD, head, migrate, version_of
from gangplan.reserve.stores.wakeups import CHANGES
from gangplan.reserve.subscribers import Callback, Subscribers, Unsubscribe
from gangplan.types import Reservation, ReservationId, ReservationState

_log = logging.getLogger(__name__)

PENDING = object()
"""What `SqlStore.answer` returns while there is no result yet."""

_KEEP = 10.0
"""Seconds after which a result that nobody has read is deleted: its client is gone."""

_LOOK, _SELDOM = 1.0, 5.0
"""The most seconds between two looks while there are subscribers; the longer where the database is crowded."""


class SqlStore:
    """Keeps the rows of a ledger in a SQL database.

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
        self._monotonic = monotonic
        self._database = database
        self._threads = threads
        self._cache = BookCache()
        self.shown = database.shown  # the URL without its password
        self.leadership = Leadership(monotonic)
        self._group_commit = GroupCommit(self._serve)
        self._poller = Poller(self, database.wakeup, f"gangplan {database.shown}")
        self._pending = PendingCalls(database, self.leadership.name, monotonic)
        self._by_hand: dict[str, Call] = {}  # calls made by `post`
        self._subscribers = Subscribers()
        self._feed = ChangeFeed(database, self._subscribers, self.present)
        self._ticked: tuple[int | None, float] = (None, 0.0)  # the due moment last ticked for, and when
        self._committed = -LINGER  # when a command of this process was last committed
        self._results: deque[tuple[float, int]] = deque()  # changes with results for others, and when they were made
        self._leads_for_good = False
        self._lock = RLock()
        self._open()

    def _open(self) -> None:
        """Bring the schema to its newest version; quick when it is there already."""
        with self._database.reading() as connection:
            if version_of(connection) == HEAD:
                return
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with self._database.writing() as connection:
            migrate(connection)

    # ------------------------------------------------------------ changes

    def change(self, command: Command) -> Reservation | None:
        """See `LedgerStore.change`. Calls that come while one is committed are committed together by the next."""
        result = self._group_commit.run(command)
        assert not isinstance(result, GangplanError)  # noqa: S101 (`run` raises refusals)
        return result

    def _serve(self, calls: Sequence[Call]) -> None:
        """Run the calls of this process as one transaction, or send them to the leader."""
        with self._lock:
            if not (self._threads and self.leadership.is_led_elsewhere()):
                try:
                    results = self._commit([call.command for call in calls])
                except LedElsewhere:
                    if not self._threads:
                        raise
                else:
                    for call, result in zip(calls, results, strict=True):
                        call.finish(result)
                    return
        self._pending.send(calls)
        self._poller.need()

    def _commit(self, batch: list[Command], *, lead: bool = False, most: int = command_queue.AT_ONCE) -> list[Result]:
        """Run one transaction: this process's commands and, where it leads, up to `most` of those in the queue."""
        with self._database.writing() as connection:
            before = read_head(connection)
            leader = self.leadership.enter(before.leader, lead=lead or self._is_crowded(before, batch))
            try:
                queued = command_queue.dequeue(connection, most) if leader.holder == self.leadership.name else []
                results = self._run(connection, before, leader, batch, queued)
                connection.commit()
            except BaseException:
                self._cache.drop()
                raise
        if self._cache.change != before.change:
            self._feed.committed(self._cache.change)
        self._note_commit(leader, batch, queued)
        return results

    def _run(
        self, connection: Connection, before: Head, leader: Leader, batch: list[Command], queued: list[QueuedCommand]
    ) -> list[Result]:
        """Bring the book up to date, run commands on it, and write what that changed."""
        book = self._cache.updated(connection, before)
        commands = [*batch, *(one.command for one in queued)]
        lookup = self._cache.lookup(connection, book, commands)
        now = to_us(self._clock())
        results = run_batch(book, lookup, commands, now)
        self._feed.prepare(book.changed.values(), lambda entry: told(book, entry, now))
        for_others = list(zip(queued, results[len(batch) :], strict=True))
        self._cache.write(connection, before, leader, commands, for_others, lookup, now)
        self._delete_old_results(connection, leader)
        if self._cache.change != before.change:
            self._database.notify(connection, CHANGES)
        return results[: len(batch)]

    def _is_crowded(self, now: Head, batch: list[Command]) -> bool:
        """Tell whether other processes commit as well at the moment: then one should lead."""
        lately = self._monotonic() - self._committed < LINGER
        return self._threads and bool(batch) and lately and now.change != self._cache.change

    def _note_commit(self, leader: Leader, batch: list[Command], queued: list[QueuedCommand]) -> None:
        """Note that a transaction was committed."""
        now = self._monotonic()
        if self.leadership.entered(leader) and self._threads:
            self._poller.need()  # somebody has to look into the queue from now on
        if batch:
            self._committed = now
        if queued:
            self.leadership.last_asked = now
            self._results.append((now, self._cache.change))

    def _delete_old_results(self, connection: Connection, leader: Leader) -> None:
        """Delete results that nobody came for; those of an earlier leader are kept as long from now on."""
        now = self._monotonic()
        if leader.holder == self.leadership.name and leader.term != self.leadership.term:
            self._results = deque([(now, self._cache.change - 1)])
        if not self._results or now - self._results[0][0] < _KEEP:
            return
        upto = 0
        while self._results and now - self._results[0][0] >= _KEEP:
            _, upto = self._results.popleft()
        command_queue.delete_results(connection, upto)

    def post(self, command: Command) -> str:
        """Put a command into the leader's queue; return the id of the call, which `answer` takes."""
        call = Call(command)
        (id,) = self._pending.send([call])
        self._by_hand[id] = call
        return id

    def answer(self, id: str) -> Result | object:
        """Return the result of a call, once, or `PENDING`; a refusal is returned, not raised."""
        call = self._by_hand[id]
        if not call.done:
            self._pending.collect()
        if not call.done:
            return PENDING
        return self._by_hand.pop(id).result

    # ------------------------------------------------------------ looking

    def step(self, *, lead: bool = False) -> float | None:
        """See `Polled.step`: look once; serve where this process leads or should (`lead`: where it may at all)."""
        now, waits = self._look()
        stays = lead or self._leads_for_good
        if self._should_serve(now, waits, stays):
            self._serve_others(lead=True)
        elif self._is_due(now) and now.holder is None and len(self._subscribers):
            self._serve_others(lead=False)
        elif self._may_leave(waits, stays):
            self._resign()
        if len(self._pending):
            self._pending.collect()
            self._pending.give_up()
        self._feed.tell(now.change)
        return self._pause(now)

    def _look(self) -> tuple[Head, bool]:
        """Return the head row, and whether commands wait in a queue that this process may serve."""
        with self._database.reading() as connection:
            now, asked = read_look(connection)
        self.leadership.see(now.leader)
        return now, asked and now.holder in (None, self.leadership.name)

    def _should_serve(self, now: Head, waits: bool, stays: bool) -> bool:
        """Tell whether this process should commit as the leader: for others, for what is due, or as a heartbeat."""
        if self.leadership.leads:
            beat = self._monotonic() - self.leadership.last_beat >= BEAT_EVERY
            return waits or beat or self._is_due(now)
        if not self.leadership.may_take(now.leader):
            return False
        gone = now.holder is not None and len(self._subscribers) > 0
        return stays or len(self._pending) > 0 or gone

    def _is_due(self, now: Head) -> bool:
        """Tell whether time has changed something; after a tick that changed nothing, the next one waits a while."""
        if now.due is None or now.due > to_us(self._clock()):
            return False
        due, at = self._ticked
        return now.due != due or self._monotonic() - at > _LOOK

    def _serve_others(self, *, lead: bool) -> None:
        """Commit once for others; a command that makes the leader fail is found and refused."""
        with self._lock:
            try:
                self._commit([], lead=lead)
            except LedElsewhere:
                return
            except GangplanError:
                raise
            except Exception:  # noqa: BLE001 (an error of ours must not stop the queue)
                _log.exception("commands failed together and are run one by one")
                self._serve_one_by_one()
            self._ticked = (self._cache.due, self._monotonic())

    def _serve_one_by_one(self) -> None:
        """Run what is in the queue in transactions of one command; refuse the first command that fails."""
        try:
            for _ in range(command_queue.AT_ONCE):
                self._commit([], lead=True, most=1)
        except GangplanError:
            raise
        except Exception as error:  # noqa: BLE001 (its caller gets it)
            _log.exception("a command cannot be run")
            self._refuse_first(error)

    def _refuse_first(self, error: Exception) -> None:
        """Take the oldest command out of the queue; its result is that it failed."""
        with self._database.writing() as connection:
            now = read_head(connection)
            self.leadership.enter(now.leader, lead=False)
            self._cache.drop()
            command_queue.refuse_first(connection, now.change + 1, error)
            connection.execute(update(head).values(change=now.change + 1))

    def _may_leave(self, waits: bool, stays: bool) -> bool:
        """Tell whether nobody needs this leader any more."""
        needed = waits or stays or self._monotonic() - self.leadership.last_asked <= LINGER
        return self.leadership.leads and not needed

    def _resign(self) -> None:
        """Stop leading, so that the next leader need not wait until the heartbeat has stopped for long enough."""
        with self._lock, self._database.writing() as connection:
            now = read_head(connection)
            if (now.term, now.holder) == (self.leadership.term, self.leadership.name):
                connection.execute(update(head).values(holder=None, beat=now.beat + 1))
                self._database.notify(connection, CHANGES)
        self.leadership.left()

    def _pause(self, now: Head) -> float | None:
        """Return the seconds to the next look; None when nobody waits for anything."""
        if self.leadership.leads:
            longest = BEAT_EVERY
        elif len(self._pending) or self._leads_for_good:
            longest = BEAT_EVERY / 2
        elif len(self._subscribers):
            longest = _SELDOM * random.uniform(0.8, 1.2) if self._database.wakeup.crowded else _LOOK
        else:
            return None
        if now.due is None or self._ticked[0] == now.due:
            return longest
        return min(longest, max(0.0, (now.due - to_us(self._clock())) / SECOND))

    def failed(self, error: BaseException) -> None:
        """See `Polled.failed`."""
        self._pending.failed(error)

    # ------------------------------------------------------------ subscribers

    def knows(self, id: ReservationId) -> bool:
        """See `LedgerStore.knows`."""
        return self._cache.knows(id) or self.get(id)[0] is not None

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `LedgerStore.subscribe`."""
        unsubscribe = self._subscribers.add(id, callback)
        if self._threads:
            self._poller.need()
        return unsubscribe

    # ------------------------------------------------------------ reading

    def query(self, query: BookQuery[T]) -> T:
        """See `LedgerStore.query`."""
        with self._lock, self._database.reading() as connection:
            book = self._cache.updated(connection, read_head(connection))
            return query(book, self._cache.lookup(connection, book))

    def present(self, ids: Collection[ReservationId]) -> dict[ReservationId, Reservation]:
        """Return reservations as they stand now, with the reasons why they wait."""
        now = to_us(self._clock())
        return self.query(lambda book, lookup: {id: told(book, entry, now) for id in ids if (entry := lookup(id))})

    def get(self, id: ReservationId) -> tuple[Entry | None, int | None]:
        """See `LedgerStore.get`."""
        with self._database.reading() as connection:
            now = read_head(connection)
            self.leadership.see(now.leader)  # a call that follows goes to its leader at once
            return next(iter(queries.read_entries(connection, [id])), None), now.due

    def select(self, *, since: int | None, state: ReservationState | None, owner: str = "") -> list[Entry]:
        """See `LedgerStore.select`."""
        with self._database.reading() as connection:
            return queries.select_entries(connection, since, state, owner)

    def documents(self, kind: str) -> list[tuple[int, Document]]:
        """See `LedgerStore.documents`."""
        with self._database.reading() as connection:
            return queries.select_documents(connection, kind)

    def audit(self) -> Iterator[AuditEvent]:
        """See `LedgerStore.audit`. Each page is a transaction of its own, so that a slow reader holds nothing up."""
        after = -1
        while True:
            with self._database.reading() as connection:
                events = retention.read_page(connection, after)
            if not events:
                return
            yield from events
            after = events[-1].change

    def replay(self) -> Replay:
        """See `LedgerStore.replay`."""
        with self._database.reading() as connection:
            return retention.check(connection)

    def compact(self, before: int) -> Compacted:
        """See `LedgerStore.compact`; any process may do it, whoever leads."""
        with self._lock, self._database.writing() as connection:
            done = retention.compact(connection, before, to_us(self._clock()))
            self._database.notify(connection, CHANGES)
        return done

    def lead(self) -> None:
        """Lead until the store is closed, from when nobody else leads."""
        self._leads_for_good = True
        self._poller.need()

    def status(self) -> Status:
        """Return the state of the ledger."""
        with self._database.reading() as connection:
            return queries.read_status(connection, self.leadership.name)

    def close(self) -> None:
        """See `LedgerStore.close`."""
        self._poller.close()
        try:
            if self.leadership.leads:
                self._resign()
        except UnavailableError:
            _log.info("the ledger could not be told that its leader left: the next one waits for its heartbeat")
        finally:
            self.failed(RuntimeError("the ledger was closed"))
            self._database.dispose()
