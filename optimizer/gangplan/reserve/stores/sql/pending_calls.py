"""The calls of this process that another one, the leader, is to run: sent together, finished by their ids."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from gangplan.errors import GangplanError, UnavailableError
from gangplan.reserve.commands import Result
from gangplan.reserve.stores.group_commit import Call
from gangplan.reserve.stores.sql import command_queue
from gangplan.reserve.stores.sql.command_queue import QueuedCommand
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.leadership import Monotonic
from gangplan.reserve.stores.sql.schema import head
from gangplan.reserve.stores.wakeups import COMMANDS

_LATE = 10.0
"""Seconds after its deadline for which a call whose command was run is still kept, so that its result may come."""


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
                command_queue.enqueue(connection, queued)
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
            results = command_queue.read_results(connection, self._client, self._collected)
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
                withdrawn = command_queue.withdraw(connection, id)
            if withdrawn or now > deadline + _LATE:
                self._finish(id, UnavailableError("ledger: its leader gave no answer: try again"))

    def failed(self, error: BaseException) -> None:
        """Note that a look failed: finish all calls if it failed for good, else those whose deadline is past."""
        now = self._monotonic()
        for id, (_, deadline) in list(self._calls.items()):
            if now >= deadline or not isinstance(error, GangplanError):
                self._finish(id, UnavailableError(f"ledger: no answer came ({error}): try again"))
