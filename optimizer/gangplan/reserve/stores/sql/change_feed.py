"""Tells subscribers in this process which reservations have changed.

A change that this process committed itself is told as it was written; changes of other processes are read from the
rows. Why a reservation waits is worked out when it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from sqlalchemy import Connection, select

from gangplan.reserve.admission import Entry
from gangplan.reserve.codec import entry_of
from gangplan.reserve.stores.sql.database import Database
from gangplan.reserve.stores.sql.queries import read_entries
from gangplan.reserve.stores.sql.schema import head, reservations
from gangplan.reserve.subscribers import Subscribers
from gangplan.types import Reservation, ReservationId

Present = Callable[[Collection[ReservationId]], dict[ReservationId, Reservation]]
"""Returns reservations as they stand now, with the reasons why they wait."""

_FEW = 300
"""Up to so many reservations are asked for by their ids; for more, all rows that have changed are read."""


class ChangeFeed:
    """Tells subscribers what the rows say."""

    def __init__(self, database: Database, subscribers: Subscribers, present: Present) -> None:
        self._database = database
        self._present = present
        self._subscribers = subscribers
        self._told = -1  # all changes up to this one have been told; -1: begin with the present state
        self._prepared: list[Reservation] | None = None  # what is about to be committed
        self._own: deque[tuple[int, list[Reservation]]] = deque()  # what this process committed, by change

    # ------------------------------------------------------------ from whoever commits

    def prepare(self, changed: Iterable[Entry], told: Callable[[Entry], Reservation]) -> None:
        """Keep how reservations will stand after a transaction, if there are subscribers."""
        ids = self._subscribers.ids()
        self._prepared = [told(entry) for entry in changed if entry.id in ids] if ids else None

    def committed(self, change: int) -> None:
        """Let what was prepared be told: it was committed as this change."""
        if self._prepared is not None:
            self._own.append((change, self._prepared))

    # ------------------------------------------------------------ from whoever tells

    def tell(self, seen: int) -> None:
        """Tell what has changed since the last time, and to new subscribers how their reservation stands.

        `seen` is the last change that the caller has just read of: where that was told, nothing is asked.
        """
        if not len(self._subscribers):
            self._told = -1
            self._own.clear()
            return
        fresh = self._subscribers.take_fresh()
        if self._told == seen and not fresh and not self._own:
            return
        try:
            changed, unchanged, upto = self._read(fresh)
            changed, unchanged = self._explained(changed), self._explained(unchanged)
        except BaseException:
            self._subscribers.again(fresh)
            raise
        self._told = upto
        for reservation in changed:
            self._subscribers.tell(reservation)
        for reservation in unchanged:
            self._subscribers.tell(reservation, fresh[reservation.id])

    def _read(self, fresh: Collection[ReservationId]) -> tuple[list[Reservation], list[Reservation], int]:
        """Return what has changed, what has not but has new subscribers, and up to which change that holds."""
        with self._database.reading() as connection:
            upto = connection.execute(select(head.c.change)).scalar_one()
            changed = self._changed(connection, upto) if 0 <= self._told != upto else []
            known = {reservation.id for reservation in changed}
            entries = read_entries(connection, [id for id in fresh if id not in known])
            return changed, [entry.reservation() for entry in entries], upto

    def _explained(self, reservations: list[Reservation]) -> list[Reservation]:
        """Return reservations with the reason why they wait, which the rows do not have."""
        bare = [one.id for one in reservations if one.state.waits and one.reason is None]
        present = self._present(bare) if bare else {}
        return [present.get(one.id, one) for one in reservations]

    def _changed(self, connection: Connection, upto: int) -> list[Reservation]:
        """Return what has changed since the last time: own changes as they were written, the others from the rows."""
        told, changed = self._told, list[Reservation]()
        while self._own and self._own[0][0] <= min(told + 1, upto):
            change, reservations_of_change = self._own.popleft()
            if change > told:
                told = change
                changed += reservations_of_change
        return changed if told >= upto else changed + self._rows_after(connection, told)

    def _rows_after(self, connection: Connection, change: int) -> list[Reservation]:
        """Return the reservations with subscribers that have changed after a change."""
        ids = self._subscribers.ids()
        query = select(reservations).where(reservations.c.change > change)
        if len(ids) <= _FEW:
            query = query.where(reservations.c.id.in_(ids))
        return [entry_of(row).reservation() for row in connection.execute(query).mappings() if row["id"] in ids]
