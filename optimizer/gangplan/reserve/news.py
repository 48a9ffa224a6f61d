"""What changed, for those in this process who wait for it: read once, told to each whom it is about."""

from __future__ import annotations

from sqlalchemy import select

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
            entries, upto = self._read(fresh)
        except BaseException:
            self._subscribers.again(fresh)
            raise
        self._told = upto
        for entry in entries:
            self._subscribers.tell(entry.reservation())

    def _read(self, fresh: list[ReservationId]) -> tuple[list[Entry], int]:
        """Return what subscribers wait for, and up to which change."""
        with self._database.reading() as connection:
            upto = connection.execute(select(head.c.change)).scalar_one()
            entries = {entry.id: entry for entry in read_many(connection, fresh)}
            if self._told >= 0 and upto != self._told:
                ids = self._subscribers.ids() - entries.keys()
                query = select(reservations).where(reservations.c.change > self._told)
                if len(ids) <= _FEW:
                    query = query.where(reservations.c.id.in_(ids))
                rows = [row for row in connection.execute(query).mappings() if row["id"] in ids]
                entries.update((ReservationId(row["id"]), entry_of(row)) for row in rows)
        return list(entries.values()), upto
