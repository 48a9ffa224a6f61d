"""The queue of commands for the leader, their results, and the calls of this process that wait for theirs.

Both are tables that are empty when nobody is at work. A command is run exactly once: the transaction that runs it
deletes it from the queue and writes its result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from gangplan import errors
from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.reserve.codec import Row, entry_of, reason_from
from gangplan.reserve.commands import Command, Result, command_from, command_text
from gangplan.reserve.stores.group_commit import Call
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.leadership import Monotonic
from gangplan.reserve.stores.sql.schema import answers, head, inbox
from gangplan.reserve.stores.wakeups import COMMANDS

AT_ONCE = 500
"""The most queued commands that one transaction runs."""

_LATE = 10.0
"""Seconds after its deadline for which a call whose command was run is still kept, so that its result may come."""


@dataclass(frozen=True, slots=True)
class QueuedCommand:
    """A command in the queue, the id of its call, and the client that waits for the result."""

    call: str
    client: str
    command: Command


def enqueue(connection: Connection, queued: Sequence[QueuedCommand]) -> None:
    """Put commands into the queue."""
    rows = [{"call": one.call, "client": one.client, "body": command_text(one.command)} for one in queued]
    connection.execute(insert(inbox), rows)


def dequeue(connection: Connection, most: int = AT_ONCE) -> list[QueuedCommand]:
    """Take the oldest commands out of the queue."""
    rows = connection.execute(select(inbox).order_by(inbox.c.seq).limit(most)).all()
    if rows:
        connection.execute(delete(inbox).where(inbox.c.seq.in_([row.seq for row in rows])))
    return [QueuedCommand(row.call, row.client, command_from(row.body)) for row in rows]


def refuse_first(connection: Connection, change: int, error: Exception) -> None:
    """Take the oldest command out of the queue; its result is that it failed."""
    for queued in dequeue(connection, 1):
        refusal = GangplanError(f"ledger: {queued.command.name} failed in its leader: {error!r}")
        write_results(connection, change, [(queued, result_text(refusal, {}))])


def withdraw(connection: Connection, call: str) -> bool:
    """Delete a command that nobody has run yet; False when it was run."""
    return connection.execute(delete(inbox).where(inbox.c.call == call)).rowcount > 0


def write_results(connection: Connection, change: int, results: Sequence[tuple[QueuedCommand, str]]) -> None:
    """Write the results of commands that a change has run."""
    if results:
        rows = [{"call": to.call, "client": to.client, "change": change, "body": text} for to, text in results]
        connection.execute(insert(answers), rows)


def read_results(connection: Connection, client: str, after: int) -> list[tuple[str, Result]]:
    """Return the results for a client, by call, that were written by changes later than `after`."""
    query = select(answers.c.call, answers.c.body).where(answers.c.client == client, answers.c.change > after)
    return [(row.call, _result_from(row.body)) for row in connection.execute(query)]


def delete_results(connection: Connection, upto: int) -> None:
    """Delete the results of changes up to one: a client that has not read them by now is gone."""
    connection.execute(delete(answers).where(answers.c.change <= upto))


# ---------------------------------------------------------------- results as text


def result_text(result: Result, row: Row) -> str:
    """Return a result as JSON, given the row of its reservation with the reason why it waits."""
    if result is None:
        return "null"
    if isinstance(result, InputError):
        return json.dumps({"error": "InputError", "said": [result.field, _plain(result.value), result.remedy]})
    if isinstance(result, GangplanError):
        return json.dumps({"error": type(result).__name__, "said": [str(result)]})
    return json.dumps(row)


def _result_from(text: str) -> Result:
    body = json.loads(text)
    if body is None:
        return None
    if "error" in body:
        kind = getattr(errors, body["error"], GangplanError)
        return kind(*body["said"])
    return entry_of(body).reservation(reason_from(body["reason"]))


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# ---------------------------------------------------------------- the side of whoever asks


class PendingCalls:
    """What this process has asked the leader and has no result of yet."""

    def __init__(self, database: Database, client: str, monotonic: Monotonic) -> None:
        self._database = database
        self._client = client
        self._monotonic = monotonic
        self._calls: dict[str, tuple[Call, float]] = {}  # by id; with the deadline of each
        self._number = 0
        self._collected = -1  # results of changes up to this one have been read

    def __len__(self) -> int:
        return len(self._calls)

    def send(self, calls: Sequence[Call]) -> list[str]:
        """Put calls into the leader's queue, in one transaction; return their ids."""
        deadline = self._monotonic() + self._database.patience
        sent = {self._next_id(): call for call in calls}
        for call in calls:
            call.posted = True
        self._calls.update((id, (call, deadline)) for id, call in sent.items())
        queued = [QueuedCommand(id, self._client, call.command) for id, call in sent.items()]
        try:
            with self._database.posting() as connection:
                enqueue(connection, queued)
                self._database.notify(connection, COMMANDS)
        except BaseException:
            for id, call in sent.items():
                del self._calls[id]
                call.posted = False
            raise
        return list(sent)

    def _next_id(self) -> str:
        self._number += 1
        return f"{self._client[-40:]}#{self._number}"

    def collect(self) -> None:
        """Finish the calls whose results are there."""
        with self._database.reading() as connection:
            newest = connection.execute(select(head.c.change)).scalar_one()
            results = read_results(connection, self._client, self._collected)
        self._collected = newest
        for id, result in results:
            self._finish(id, result)

    def _finish(self, id: str, result: Result) -> None:
        """Finish a call that still waits."""
        if id in self._calls:
            self._calls.pop(id)[0].finish(result)

    def give_up(self) -> None:
        """Finish the calls whose deadline is past; commands that nobody has run yet are taken out of the queue."""
        now = self._monotonic()
        for id, (_, deadline) in list(self._calls.items()):
            if now < deadline:
                continue
            with self._database.posting() as connection:
                withdrawn = withdraw(connection, id)
            if withdrawn or now > deadline + _LATE:
                self._finish(id, UnavailableError("ledger: its leader gave no answer: try again"))

    def failed(self, error: BaseException) -> None:
        """Note that a look failed: finish all calls if it failed for good, else those whose deadline is past."""
        now = self._monotonic()
        for id, (_, deadline) in list(self._calls.items()):
            if now >= deadline or not isinstance(error, GangplanError):
                self._finish(id, UnavailableError(f"ledger: no answer came ({error}): try again"))
