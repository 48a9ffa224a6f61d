"""The tables of gangplan's own files: their columns, and the rules for their rows (docs/telemetry.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from gangplan.telemetry.rows.checks import Field, Kind, Rule, moment, name, not_before, number, one_of, text, value_of
from gangplan.types import SERIES, WorkloadClass


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table's fields, the rules between them, and the fields in which no two rows may agree."""

    fields: tuple[Field, ...]
    relations: tuple[Rule, ...] = ()
    unique: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[str]:
        """The columns that hold numbers."""
        return [field.name for field in self.fields if field.kind is Kind.NUMBER]

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a file of this table must have."""
        return tuple(field.name for field in self.fields if not field.optional)


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Rows of text of one of gangplan's tables, as a file gives them.

    `names`: what the file calls our columns. `zone`: that of times without an offset. `counted_by`: each row is one
    request, to be counted in steps of this length. `skipped`: rows that are right but of no use. `relative`: the times
    have no calendar. `span`: from when to when the file tells all; none if that is from its first time to its last.
    `last`: the last time in rows that are skipped.
    """

    table: str
    frame: pl.DataFrame
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    zone: str = ""
    counted_by: timedelta | None = None
    relative: bool = False
    span: tuple[datetime, datetime] | None = None
    last: datetime | None = None
    skipped: int = 0
    notes: tuple[str, ...] = ()


def table_specs(now: datetime) -> dict[str, TableSpec]:
    """Return the tables by name; no time may be after `now`, except an event's."""
    return {
        "jobs": _jobs(now),
        "demand": _demand(now),
        "nodes": TableSpec(
            fields=(
                moment("time", now),
                name("node"),
                name("accelerator"),
                number("gpu_utilization", most=1),
                number("cpu_utilization", most=1, optional=True),
                number("gpu_memory_utilization", most=1, optional=True),
                number("network_bytes_per_second", most=1e15, optional=True),
            ),
            unique=("time", "node"),
        ),
        "queue": TableSpec(
            fields=(moment("time", now), name("tenant"), name("accelerator"), number("jobs"), number("gpus")),
            unique=("time", "tenant", "accelerator"),
        ),
        "requests": TableSpec(
            fields=(moment("time", now), name("tenant"), number("requests_per_second", most=1e12)),
            unique=("time", "tenant"),
        ),
        "events": TableSpec(
            fields=(
                moment("start", now, ahead=True),
                moment("end", now, ahead=True, after=("start",)),
                name("kind"),
                name("tenant", optional=True),
            ),
            relations=(not_before("end", "start"),),
        ),
    }


def request_log(now: datetime) -> TableSpec:
    """Return the table of a log of requests, one row each, which are counted."""
    return TableSpec(fields=(moment("time", now), name("tenant")))


def _series() -> tuple[Field, ...]:
    """Return the three fields that name a series."""
    return name("tenant"), one_of("workload_class", [kind.value for kind in WorkloadClass]), name("accelerator")


def _jobs(now: datetime) -> TableSpec:
    """Return the table of jobs, one row each; an empty time means that the job has not started, or not ended."""
    fields = (
        text("job_id"),
        *_series(),
        number("gpus", above=True),
        moment("submitted_at", now),
        moment("started_at", now, optional=True, after=("submitted_at",)),
        moment("ended_at", now, optional=True, after=("submitted_at", "started_at")),
    )
    order = (
        not_before("started_at", "submitted_at"),
        not_before("ended_at", "started_at"),
        not_before("ended_at", "submitted_at"),
    )
    return TableSpec(fields=fields, relations=order, unique=("job_id",))


def _demand(now: datetime) -> TableSpec:
    """Return the table of demand, one row for a series and an hour; a missing hour is empty or has no row."""
    hour = value_of("hour")
    inside = Rule("hour", hour != hour.dt.truncate("1h"), "is not the start of an hour")
    return TableSpec(
        fields=(moment("hour", now), *_series(), number("gpus", optional=True)),
        relations=(inside,),
        unique=("hour", *SERIES),
    )
