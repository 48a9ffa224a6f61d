"""The audit log: which columns each change has changed and how, when, in which term and by which commands.

Replayed from its beginning, or from the base that retention made of its oldest part, it gives the present rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gangplan.clock import from_us
from gangplan.reserve.codec import Row
from gangplan.types import ReservationId


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One change: the commands that it ran, and the columns of reservations that came out different.

    A `base` has all columns of all reservations as they stood at its change. Moments are in microseconds since 1970.
    """

    change: int
    at: datetime
    term: int
    commands: tuple[tuple[str, ReservationId | None], ...]
    rows: Mapping[ReservationId, Row]
    base: bool = False

    def of(self, id: ReservationId) -> AuditEvent:
        """Return the part of it that is about one reservation."""
        commands = tuple(command for command in self.commands if command[1] == id)
        rows = {id: self.rows[id]} if id in self.rows else {}
        return AuditEvent(change=self.change, at=self.at, term=self.term, commands=commands, rows=rows, base=self.base)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The result of a replay: changes read, reservations there are, and those whose rows differ from the log."""

    changes: int
    reservations: int
    different: tuple[ReservationId, ...]


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What retention has deleted: ended reservations, and rows of the audit log."""

    reservations: int
    changes: int


def replay(events: Iterable[AuditEvent]) -> dict[ReservationId, Row]:
    """Return the rows of all reservations as they are after these events, oldest first."""
    rows: dict[ReservationId, Row] = {}
    for event in events:
        if event.base:
            rows = {}
        for id, changed in event.rows.items():
            rows[id] = {**rows.get(id, {}), **changed}
    return rows


def compare(events: Sequence[AuditEvent], rows: Mapping[ReservationId, Row]) -> Replay:
    """Replay the log and compare it with the rows."""
    replayed = replay(events)
    different = tuple(id for id in sorted(replayed.keys() | rows.keys()) if replayed.get(id) != rows.get(id))
    return Replay(changes=len(events), reservations=len(rows), different=different)


def text_of(
    commands: Iterable[tuple[str, ReservationId | None]], rows: Mapping[ReservationId, Row], *, base: bool = False
) -> str:
    """Return the text of an audit row."""
    body: dict[str, Any] = {"commands": list(commands), "rows": rows}
    return json.dumps({"base": True, **body} if base else body)


def event_from(*, change: int, at: int, term: int, body: str) -> AuditEvent:
    """Read an audit row."""
    content = json.loads(body)
    commands = tuple((name, id) for name, id in content["commands"])
    rows, base = content["rows"], content.get("base", False)
    return AuditEvent(change=change, at=from_us(at), term=term, commands=commands, rows=rows, base=base)
