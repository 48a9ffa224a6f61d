"""What a source hands to the ingest: tables on the source's own time axis, and the rows that were kept out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS, Schema, empty
from gangplan.tracking import table_sha256
from gangplan.types import Usage

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
"""How many bad rows a report names; it counts them all."""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """One row that was kept out: where it stands, which field is wrong, and what to do about it."""

    place: str
    line: int
    field: str
    value: str
    remedy: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place} line {self.line}: {self.field}: {self.value!r} {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Telemetry as a source gives it, from `start` up to `end`, whole hours of the source's own time axis.

    `relative`: the axis has no calendar, so that it may be moved by any whole hours. `live`: the source watches the
    cluster that the reservations run on, so that it counts their GPUs already. `rows` were used,
    `rejected` ones were bad, `skipped` ones sound but of no use.
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

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in TABLES}

    def sha256(self) -> str:
        """Return the digest of everything in it."""
        span = [self.start.isoformat(), self.end.isoformat(), str(self.relative), str(self.live)]
        return digest_of([*span, *(table_sha256(frame) for frame in self.tables.values())])


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """One import: its run, the rows that were used and those that were kept out, and the usage that came of it.

    `rejected` names the first 20 bad rows, `rejected_count` counts all. `reused`: the same telemetry, up to the same
    hour, was the newest import already, so that nothing was written.
    """

    run_id: str
    source: str
    rows: int
    rejected: tuple[BadRow, ...]
    rejected_count: int
    usage: Usage
    skipped: int = 0
    reused: bool = False


def digest_of(parts: list[str]) -> str:
    """Return one sha256 of several texts in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
