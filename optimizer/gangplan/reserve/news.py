"""What changed, for those in this process who wait for it: read once, told to each whom it is about."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from gangplan.reserve.database import Database
from gangplan.reserve.entry import Entry
from gangplan.reserve.pages import read_many
from gangplan.reserve.rows import entry_of
from gangplan.reserve.schema import head, reservations
from gangplan.reserve.subscribers import Subscribers
from gangplan.types import ReservationId

_FEW = 300
"""News of so many reservations are asked for by their ids; of more, all that changed is read."""


class News:
    """Tells subscribers what the rows say."""

    def __init__(self, database: Database, subscribers: Subscribers) -> None:
        self._database = database
        self._subscribers = subscribers
        self._told = -1  # news of changes up to this one are told; -1: begin with how things stand

    def tell(self) -> None:
        """Tell what changed since the last time, and how those stand that are new."""
        if not len(self._subscribers):
            self._told = -1
            return
        fresh = self._subscribers.take_fresh()
        try:
            changed, first, upto = self._read(fresh)
        except BaseException:
            self._subscribers.again(fresh)
            raise
        self._told = upto
        for entry in changed:
            self._subscribers.tell(entry.reservation())
        for entry in first:
            self._subscribers.tell(entry.reservation(), fresh[entry.id])

    def _read(self, fresh: Collection[ReservationId]) -> tuple[list[Entry], list[Entry], int]:
        """Return what changed, what did not but is new to somebody, and up to which change that is so."""
        with self._database.reading() as connection:
            upto = connection.execute(select(head.c.change)).scalar_one()
            changed = self._changed(connection) if 0 <= self._told != upto else []
            known = {entry.id for entry in changed}
            return changed, read_many(connection, [id for id in fresh if id not in known]), upto

    def _changed(self, connection: Connection) -> list[Entry]:
        """Return what changed since the last time of what anybody waits for."""
        ids = self._subscribers.ids()
        query = select(reservations).where(reservations.c.change > self._told)
        if len(ids) <= _FEW:
            query = query.where(reservations.c.id.in_(ids))
        return [entry_of(row) for row in connection.execute(query).mappings() if row["id"] in ids]
