"""What is read from the tables, each query by its name."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, exists, func, literal, or_, select

from gangplan.reserve.admission import Document, Entry
from gangplan.reserve.codec import entry_of
from gangplan.reserve.stores.sql.leadership import Leader, Status
from gangplan.reserve.stores.sql.schema import documents, head, inbox, reservations
from gangplan.types import ReservationId, ReservationState, is_owned

LIVE = tuple(state.value for state in ReservationState if not state.final)


class Head(NamedTuple):
    """The head row: the last change, the counters, the next moment at which time changes something, and the leader."""

    change: int
    arrivals: int
    tokens: int
    documents_change: int
    due: int | None
    term: int
    holder: str | None
    beat: int

    @property
    def leader(self) -> Leader:
        """What it says of the leader."""
        return Leader(self.term, self.holder, self.beat)


def read_head(connection: Connection) -> Head:
    """Return the head row."""
    return Head(*connection.execute(select(*(head.c[name] for name in Head._fields))).one())


def read_look(connection: Connection) -> tuple[Head, bool]:
    """Return the head row, and whether commands wait in the queue: all that who waits asks again and again."""
    waits = exists(select(literal(1)).select_from(inbox)).label("waits")
    *fields, asked = connection.execute(select(*(head.c[name] for name in Head._fields), waits)).one()
    return Head(*fields), bool(asked)


def read_entries(connection: Connection, ids: list[ReservationId]) -> list[Entry]:
    """Return the reservations of these ids that there are."""
    entries: list[Entry] = []
    for start in range(0, len(ids), 500):
        query = select(reservations).where(reservations.c.id.in_(ids[start : start + 500]))
        entries.extend(entry_of(row) for row in connection.execute(query).mappings())
    return entries


def select_entries(
    connection: Connection, since: int | None, state: ReservationState | None, owner: str = ""
) -> list[Entry]:
    """Return reservations in order of arrival: those not final before `since`, in one state, of one owner."""
    query = select(reservations).order_by(reservations.c.arrival)
    if since is not None:
        query = query.where(or_(reservations.c.ended.is_(None), reservations.c.ended >= since))
    if state is not None:
        query = query.where(reservations.c.state == state.value)
    if owner:  # most others are left out before their texts are read
        query = query.where(reservations.c.more.contains(json.dumps(f"{owner}/")[:-1], autoescape=True))
    entries = (entry_of(row) for row in connection.execute(query).mappings())
    return [entry for entry in entries if is_owned(entry.attempt, owner)]


def live_rows(connection: Connection) -> list[Any]:
    """Return the rows of all reservations that are not final."""
    return list(connection.execute(select(reservations).where(reservations.c.state.in_(LIVE))).mappings())


def rows_after(connection: Connection, change: int) -> list[Any]:
    """Return the rows that were written after a change."""
    return list(connection.execute(select(reservations).where(reservations.c.change > change)).mappings())


def select_documents(connection: Connection, kind: str) -> list[tuple[int, Document]]:
    """Return the documents of a kind with the moments that they were written at, oldest first."""
    query = select(documents).where(documents.c.kind == kind).order_by(documents.c.change, documents.c.place)
    return [(row.at, Document(kind, row.body, row.by, row.why)) for row in connection.execute(query)]


def newest_document(connection: Connection, kind: str) -> str | None:
    """Return the newest text of a kind of document, which is the one in force."""
    query = select(documents.c.body).where(documents.c.kind == kind)
    return connection.execute(query.order_by(documents.c.change.desc(), documents.c.place.desc()).limit(1)).scalar()


def read_status(connection: Connection, name: str) -> Status:
    """Return the state of the ledger, as the process of this name sees it."""
    now = read_head(connection)
    states = select(reservations.c.state, func.count()).group_by(reservations.c.state)
    return Status(
        leader=now.holder,
        leads=now.holder == name,
        term=now.term,
        change=now.change,
        inbox=connection.execute(select(func.count()).select_from(inbox)).scalar_one(),
        states={str(state): int(count) for state, count in connection.execute(states).all()},
    )
