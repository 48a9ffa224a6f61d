"""What changed, for those in this process who wait for it: told to each whom it is about.

What this process committed itself is handed over as it was written; what others committed is read from the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from sqlalchemy import Connection, select

from gangplan.reserve.admission import Entry
from gangplan.reserve.rows import entry_of
from gangplan.reserve.stores.sql.book_rows import read_many
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.schema import head, reservations
from gangplan.reserve.subscribers import Subscribers
from gangplan.types import Reservation, ReservationId

_FEW = 300
"""News of so many reservations are asked for by their ids; of more, all that changed is read."""


class News:
    """Tells subscribers what the rows say."""

    def __init__(self, database: Database, subscribers: Subscribers) -> None:
        self._database = database
        self._subscribers = subscribers
        self._told = -1  # news of changes up to this one are told; -1: begin with how things stand
        self._draft: list[Reservation] | None = None  # what is about to be committed
        self._handed: deque[tuple[int, list[Reservation]]] = deque()  # what was, by its change

    # ------------------------------------------------------------ from who commits

    def draft(self, changed: Iterable[Entry]) -> None:
        """Take pictures of what a transaction is about to commit, if anybody waits for any news."""
        self._draft = [entry.reservation() for entry in changed] if len(self._subscribers) else None

    def hand(self, change: int) -> None:
        """Let the pictures be told: they were committed as this change."""
        if self._draft is not None:
            self._handed.append((change, self._draft))

    # ------------------------------------------------------------ from who tells

    def tell(self) -> None:
        """Tell what changed since the last time, and how those stand that are new."""
        if not len(self._subscribers):
            self._told = -1
            self._handed.clear()
            return
        fresh = self._subscribers.take_fresh()
        try:
            changed, first, upto = self._read(fresh)
        except BaseException:
            self._subscribers.again(fresh)
            raise
        self._told = upto
        for seen in changed:
            self._subscribers.tell(seen)
        for seen in first:
            self._subscribers.tell(seen, fresh[seen.id])

    def _read(self, fresh: Collection[ReservationId]) -> tuple[list[Reservation], list[Reservation], int]:
        """Return what changed, what did not but is new to somebody, and up to which change that is so."""
        with self._database.reading() as connection:
            upto = connection.execute(select(head.c.change)).scalar_one()
            changed = self._changed(connection, upto) if 0 <= self._told != upto else []
            known = {seen.id for seen in changed}
            first = read_many(connection, [id for id in fresh if id not in known])
            return changed, [entry.reservation() for entry in first], upto

    def _changed(self, connection: Connection, upto: int) -> list[Reservation]:
        """Return what changed since the last time: as it was handed over, and from the first gap on as it stands."""
        told, changed = self._told, list[Reservation]()
        while self._handed and self._handed[0][0] <= min(told + 1, upto):
            change, seen = self._handed.popleft()
            if change > told:
                told = change
                changed += seen
        return changed if told >= upto else changed + self._rows_after(connection, told)

    def _rows_after(self, connection: Connection, change: int) -> list[Reservation]:
        """Return what changed after a change of what anybody waits for."""
        ids = self._subscribers.ids()
        query = select(reservations).where(reservations.c.change > change)
        if len(ids) <= _FEW:
            query = query.where(reservations.c.id.in_(ids))
        return [entry_of(row).reservation() for row in connection.execute(query).mappings() if row["id"] in ids]
