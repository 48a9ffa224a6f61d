"""Commands of this process that another one, the leader, is to run: posted together, answered by their call ids."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from gangplan.errors import GangplanError, UnavailableError
from gangplan.reserve.commands import Answer, Command
from gangplan.reserve.stores.calls import Call
from gangplan.reserve.stores.sql import command_queue
from gangplan.reserve.stores.sql.command_queue import Letter
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.leading import Monotonic
from gangplan.reserve.stores.sql.schema import head
from gangplan.reserve.stores.wakes import POST

_LATE = 10.0
"""Seconds after its time is over that the answer of a command that was run is still waited for."""


class Outbox:
    """What this process has asked the leader, and has no answer to yet."""

    def __init__(self, database: Database, client: str, monotonic: Monotonic) -> None:
        self._database = database
        self._client = client
        self._monotonic = monotonic
        self._calls: dict[str, tuple[Call, float]] = {}  # by call id: until when its answer is waited for
        self._number = 0
        self._collected = -1  # answers of changes up to this one are taken

    def __len__(self) -> int:
        return len(self._calls)

    def send(self, calls: Sequence[Call]) -> list[str]:
        """Put calls into the leader's inbox, in one transaction; return their ids."""
        until = self._monotonic() + self._database.patience
        sent = {self._call_id(): call for call in calls}
        for call in calls:
            call.posted = True
        self._calls.update((id, (call, until)) for id, call in sent.items())
        try:
            with self._database.posting() as connection:
                command_queue.post(connection, [Letter(id, self._client, call.command) for id, call in sent.items()])
                self._database.tell(connection, POST)
        except BaseException:
            for id, call in sent.items():
                del self._calls[id]
                call.posted = False
            raise
        return list(sent)

    def post(self, command: Command) -> tuple[str, Call]:
        """Put one command into the inbox; return its id, and the call that will have the answer."""
        call = Call(command)
        (id,) = self.send([call])
        return id, call

    def _call_id(self) -> str:
        self._number += 1
        return f"{self._client[-40:]}#{self._number}"

    def collect(self) -> None:
        """Take the answers that are there."""
        with self._database.reading() as connection:
            newest = connection.execute(select(head.c.change)).scalar_one()
            found = command_queue.collect(connection, self._client, self._collected)
        self._collected = newest
        for id, answer in found:
            self._settle(id, answer)

    def _settle(self, id: str, answer: Answer) -> None:
        """Answer a call that still waits."""
        waiting = self._calls.pop(id, None)
        if waiting is not None:
            waiting[0].settle(answer)

    def give_up(self) -> None:
        """Answer the calls that have waited for too long; what nobody has run yet is taken back."""
        now = self._monotonic()
        for id, (_, until) in list(self._calls.items()):
            if now < until:
                continue
            with self._database.posting() as connection:
                back = command_queue.withdraw(connection, id)
            if back or now > until + _LATE:
                self._settle(id, UnavailableError("ledger: its leader gave no answer: try again"))

    def trouble(self, error: BaseException) -> None:
        """Take in that a look failed: if for good, all calls hear of it, else those whose time is over."""
        now = self._monotonic()
        for id, (_, until) in list(self._calls.items()):
            if now >= until or not isinstance(error, GangplanError):
                self._settle(id, UnavailableError(f"ledger: no answer came ({error}): try again"))
