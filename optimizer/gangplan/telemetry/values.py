"""What a source gives: tables with the source's own times, and the rows that were rejected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS, Schema, empty
from gangplan.tracking import table_sha256
from gangplan.types import Quarantine, Usage

TABLES: dict[str, Schema] = {
    "demand": DEMAND,
    "jobs": JOBS,
    "nodes": NODES,
    "queue": QUEUE,
    "requests": REQUESTS,
    "events": EVENTS,
}
"""The tables of telemetry by name, in the order of the fields of `Usage`."""

REJECTED_KEPT = 20
"""How many rejected rows a report lists; it counts all of them."""

NOTES_KEPT = 20
"""How many notes an import keeps, at 200 characters each: MLflow holds 5,000 characters in a tag."""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A rejected row: its file and line, the wrong field and its value, and the remedy."""

    place: str
    line: int
    field: str
    value: str
    remedy: str

    def __str__(self) -> str:
        """Return it as one line of text."""
        return f"{self.place} line {self.line}: {self.field}: {self.value!r} {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Telemetry as a source gives it, from `start` up to `end`: whole hours, in the source's own times.

    `relative`: the times have no calendar, so they may be moved by any number of hours. `live`: the source watches the
    cluster that the reservations run on, so it counts their GPUs already. `rows` counts the used rows, `rejected_count`
    the wrong ones (`rejected` lists the first 20), `skipped` the correct ones that are of no use. `notes` say, a
    sentence each, what a reader must know: what was left out and why, with its count, and what was assumed.
    """

    source: str
    start: datetime
    end: datetime
    rows: int
    demand: pl.DataFrame
    jobs: pl.DataFrame = field(default_factory=lambda: empty(JOBS))
    nodes: pl.DataFrame = field(default_factory=lambda: empty(NODES))
    queue: pl.DataFrame = field(default_factory=lambda: empty(QUEUE))
    requests: pl.DataFrame = field(default_factory=lambda: empty(REQUESTS))
    events: pl.DataFrame = field(default_factory=lambda: empty(EVENTS))
    relative: bool = False
    live: bool = False
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in TABLES}

    def sha256(self) -> str:
        """Return the digest of everything in it."""
        span = [self.start.isoformat(), self.end.isoformat(), str(self.relative), str(self.live)]
        return digest_of([*span, *self.notes, *(table_sha256(frame) for frame in self.tables.values())])


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """One import: its run, the rows that were used and rejected, and the resulting usage.

    `rejected` lists the first 20 rejected rows, `rejected_count` counts all. `age` is how long before now its last hour
    ended. `reused`: the newest import already held the same telemetry up to the same hour, so nothing was written.
    `quarantined` are the hours that the ledger denies, as far as its reservations were recorded.
    """

    run_id: str
    source: str
    rows: int
    rejected: tuple[BadRow, ...]
    rejected_count: int
    usage: Usage
    age: timedelta
    skipped: int = 0
    reused: bool = False
    quarantined: tuple[Quarantine, ...] = ()


def notes_tag(notes: Sequence[str]) -> str:
    """Return notes as the text of a tag, as many and as long as one holds."""
    return json.dumps([note[:200] for note in notes[:NOTES_KEPT]], ensure_ascii=False)


def digest_of(parts: list[str]) -> str:
    """Return one sha256 for several texts in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
