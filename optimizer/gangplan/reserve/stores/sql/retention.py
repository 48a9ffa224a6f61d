"""What of a ledger's past is thrown away, and how the audit log is read."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, delete, func, insert, select, update

from gangplan.clock import to_us
from gangplan.reserve.audit import AuditEvent, Compacted, Replay, compare, event_from, replay, text_of
from gangplan.reserve.codec import COLUMNS
from gangplan.reserve.stores.sql.queries import LIVE
from gangplan.reserve.stores.sql.schema import audit, head, reservations
from gangplan.types import ReservationId

_PAGE = 500


def read_page(connection: Connection, after: int, upto: int | None = None) -> list[AuditEvent]:
    """Return the next events of the audit log."""
    query = select(audit).where(audit.c.change > after).order_by(audit.c.change).limit(_PAGE)
    if upto is not None:
        query = query.where(audit.c.change <= upto)
    rows = connection.execute(query)
    return [event_from(change=row.change, at=row.at, term=row.term, body=row.body) for row in rows]


def read_all(connection: Connection, upto: int | None = None) -> Iterator[AuditEvent]:
    """Return all events of the audit log, oldest first."""
    after = -1
    while events := read_page(connection, after, upto):
        yield from events
        after = events[-1].change


def check(connection: Connection) -> Replay:
    """Hold the audit log against the rows, at one moment."""
    rows = {
        ReservationId(row["id"]): {name: row[name] for name in COLUMNS}
        for row in connection.execute(select(reservations)).mappings()
    }
    return compare(list(read_all(connection)), rows)


def compact(connection: Connection, before: int, now: int) -> Compacted:
    """Delete what ended before a moment, and fold the audit log up to it into one base; under the write lock."""
    fold = _last_before(connection, before)
    past = select(reservations.c.id).where(
        reservations.c.state.not_in(LIVE), reservations.c.ended < before, reservations.c.change <= fold
    )
    gone = [ReservationId(id) for id in connection.execute(past).scalars()]
    events = list(read_all(connection, fold))
    if not events or (events[-1].base and not gone):
        return Compacted(reservations=0, changes=0)
    rows = replay(events)
    for id in gone:
        rows.pop(id, None)
    connection.execute(delete(audit).where(audit.c.change <= fold))
    last = events[-1]
    base = {"change": last.change, "at": to_us(last.at), "term": last.term, "body": text_of([], rows, base=True)}
    connection.execute(insert(audit), base)
    for start in range(0, len(gone), _PAGE):
        connection.execute(delete(reservations).where(reservations.c.id.in_(gone[start : start + _PAGE])))
    _note(connection, now)
    return Compacted(reservations=len(gone), changes=len([event for event in events if not event.base]))


def _last_before(connection: Connection, before: int) -> int:
    """Return the last change up to which all were made before a moment, by the clocks of their leaders."""
    later = connection.execute(select(func.min(audit.c.change)).where(audit.c.at >= before)).scalar()
    return int(connection.execute(select(head.c.change)).scalar_one()) if later is None else later - 1


def _note(connection: Connection, now: int) -> None:
    """Write into the log that it was compacted."""
    row = connection.execute(select(head)).one()
    change = row.change + 1
    body = text_of([("compact", None)], {})
    connection.execute(insert(audit), {"change": change, "at": now, "term": row.term, "body": body})
    connection.execute(update(head).values(change=change))
