"""Announcements: releases, campaigns, holidays, planned jobs and targets of growth, from the calendars of people.

A source is a CSV or Parquet file, an iCalendar file, `holidays:DE` (or `holidays:DE-BY`), or `mlflow+<tracking URI>`,
where runs with the tag gangplan.event.kind are events. The newest announcements of a source replace its earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import Run

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.tables import ANNOUNCED, EVENTS, conform, empty
from gangplan.telemetry.rows import (
    FAULT,
    LINE,
    PLACE,
    Rule,
    TableSpec,
    check,
    moment,
    name,
    not_before,
    number,
    one_of,
    read_rows,
    value_of,
)
from gangplan.telemetry.sources import tagged_runs
from gangplan.telemetry.values import BadRow, digest_of
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import Usage, WorkloadClass
from gangplan.urls import shown

ANNOUNCEMENT = {"kind": "announced"}
JOB, TARGET = "job", "target"
BACK, AHEAD = timedelta(days=1096), timedelta(days=366)
"""How far before and after now a calendar is read, since it may have no end."""

_TAG = "gangplan.event."
_SOURCES = "a CSV or Parquet file, an .ics file, holidays:DE or mlflow+<tracking URI>"
_MOST = 5000


@dataclass(frozen=True, kw_only=True)
class Announcements:
    """The announcements of one source: the run that keeps them, the rows (tables.ANNOUNCED), the rejected rows."""

    run_id: str
    source: str
    rows: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0


def announce(source: str, store: Store, *, clock: Clock) -> Announcements:
    """Keep the announcements of a source as a run of MLflow, from where every later forecast reads them.

    Raises
    ------
    InputError
        When the source does not exist, is of an unknown kind, or has no usable row; nothing was written.
    """
    checked = check(_rows(source, clock()), SPEC.fields, SPEC.relations)
    rows = conform("announced", checked.frame, ANNOUNCED).unique(maintain_order=True).sort("start", "kind")
    if not rows.height:
        why = f": {checked.rejected[0]}" if checked.rejected else f": give {_SOURCES} with at least one row"
        raise InputError("source", source, f"has no usable row{why}")
    source = shown(source)
    tags = {**ANNOUNCEMENT, "source": source, "sha256": table_sha256(rows)}
    with store.run(TELEMETRY, f"announced {source}"[:250], tags) as run_id:
        store.log_table(run_id, "announced", rows)
    return Announcements(
        run_id=run_id, source=source, rows=rows, rejected=checked.rejected, rejected_count=checked.rejected_count
    )


def read_announced(store: Store) -> pl.DataFrame:
    """Return the newest announcements of all sources (tables.ANNOUNCED)."""
    newest: dict[str, Run] = {}
    for run in store.runs(TELEMETRY, ANNOUNCEMENT, limit=1000):
        newest.setdefault(run.data.tags["source"], run)
    tables = [store.read_table(run.info.run_id, "announced") for _, run in sorted(newest.items())]
    return pl.concat([empty(ANNOUNCED), *tables]).unique(maintain_order=True).sort("start", "kind")


def with_announced(usage: Usage, announced: pl.DataFrame) -> Usage:
    """Return the usage with announcements (tables.ANNOUNCED); their events are added to those of the telemetry."""
    if not announced.height:
        return usage
    events = announced.filter(~pl.col("kind").is_in([JOB, TARGET])).select(list(EVENTS))
    together = pl.concat([usage.events, events]).unique(maintain_order=True).sort("start", "kind")
    digest = digest_of([usage.sha256, table_sha256(announced)])
    return replace(usage, events=together, announced=announced, sha256=digest)


def _spec() -> TableSpec:
    """Return the fields of an announcement and the rules between them."""
    last = datetime(2200, 1, 1, tzinfo=UTC)
    kind, gpus, growth = value_of("kind"), value_of("gpus"), value_of("growth")
    of_job = ("tenant", "workload_class", "accelerator", "gpus")
    incomplete = (kind == JOB) & pl.any_horizontal(value_of(field).is_null() for field in of_job)
    return TableSpec(
        fields=(
            moment("start", last, ahead=True),
            moment("end", last, ahead=True),
            name("kind"),
            name("tenant", optional=True),
            name("like", optional=True),
            one_of("workload_class", [member.value for member in WorkloadClass], optional=True),
            name("accelerator", optional=True),
            number("gpus", above=True, optional=True),
            number("growth", least=-1, most=100, above=True, optional=True),
        ),
        relations=(
            not_before("end", "start"),
            Rule("gpus", incomplete, "is no planned job: give tenant, workload_class, accelerator and gpus"),
            Rule("gpus", (kind != JOB) & gpus.is_not_null(), f"belongs to the kind {JOB}: leave it empty"),
            Rule("growth", (kind == TARGET) & growth.is_null(), "is missing: give it as a share, like 0.2"),
            Rule("growth", (kind != TARGET) & growth.is_not_null(), f"belongs to the kind {TARGET}: leave it empty"),
        ),
    )


SPEC = _spec()


def _rows(source: str, now: datetime) -> pl.DataFrame:
    """Read a source as rows of text."""
    if source.startswith("holidays:"):
        return _as_rows(_holidays(source, now), source)
    if source.startswith("mlflow+"):
        return _as_rows(_tagged(source.removeprefix("mlflow+")), shown(source))
    if source.endswith(".ics"):
        return _as_rows(_calendar(Path(source), now), source)
    if "://" in source:
        raise InputError("source", source, f"is of a kind that is not known: give {_SOURCES}")
    rows = read_rows(Path(source))
    missing = [column for column in ("start", "end", "kind") if column not in rows.columns]
    if missing:
        raise InputError(", ".join(missing), source, "lacks that column: give start, end and kind (docs/events.md)")
    return rows


def _as_rows(entries: Iterator[dict[str, str | None]], source: str) -> pl.DataFrame:
    """Return entries as rows of text with their number."""
    named = [
        {**dict.fromkeys(ANNOUNCED), **entry, LINE: line, PLACE: source, FAULT: None}
        for line, entry in enumerate(entries, start=1)
    ]
    text = dict.fromkeys((*ANNOUNCED, PLACE, FAULT), pl.String())
    return pl.DataFrame(named, schema={**text, LINE: pl.Int64()})


def _calendar(path: Path, now: datetime) -> Iterator[dict[str, str | None]]:
    """Yield the events of an iCalendar file, recurring ones one by one; times may be in any zone, days are in UTC.

    The kind is X-GANGPLAN-KIND, else the first of CATEGORIES, else "event"; X-GANGPLAN-TENANT, -LIKE, -GPUS and so on
    give the other columns.
    """
    import recurring_ical_events  # pyright: ignore[reportMissingTypeStubs]
    from icalendar import Calendar

    try:
        parsed: Any = Calendar.from_ical(path.read_bytes())
    except OSError as error:
        raise InputError("source", path, f"cannot be read ({error.strerror}): check the path") from None
    except ValueError as error:
        raise InputError("source", path, f"is no iCalendar file ({error}): export it again") from None
    query: Any = recurring_ical_events.of(parsed)  # pyright: ignore[reportUnknownMemberType]
    for event in query.between(now - BACK, now + AHEAD)[:_MOST]:
        begun, ended = event.start, event.end
        categories = event.get("CATEGORIES")
        first = str(categories.cats[0]) if hasattr(categories, "cats") and categories.cats else "event"
        extra = {column: event.get(f"X-GANGPLAN-{column.upper().replace('_', '-')}") for column in ANNOUNCED}
        given = {column: str(value) for column, value in extra.items() if value is not None}
        yield {"kind": _slug(first), "start": _moment(begun), "end": _moment(ended), **given}


def _holidays(source: str, now: datetime) -> Iterator[dict[str, str | None]]:
    """Yield the public holidays of a country, or of a part of it, as whole days in UTC."""
    import holidays

    country, _, part = source.removeprefix("holidays:").partition("-")
    years = range((now - BACK).year, (now + AHEAD).year + 1)
    try:
        days = holidays.country_holidays(country, subdiv=part or None, years=years)
    except NotImplementedError as error:
        raise InputError("source", source, f"is no country that is known ({error}): give it like DE or DE-BY") from None
    for day in sorted(days):
        yield {"kind": "holiday", "start": _moment(day), "end": _moment(day + timedelta(days=1))}


def _tagged(uri: str) -> Iterator[dict[str, str | None]]:
    """Yield the runs that are tagged as events; without tags for them, the run's own start and end count."""
    for run in tagged_runs(uri, f"{_TAG}kind", _TAG):
        ends = None if run.end is None else _moment(run.end)
        yield {"start": _moment(run.start), "end": ends} | {
            column: value for column, value in run.tags.items() if column in ANNOUNCED
        }


def _moment(value: date | datetime) -> str:
    """Write a time in UTC; a day starts at midnight UTC, and a time without a zone counts as UTC."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time(), UTC)
    zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
    return zoned.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _slug(words: str) -> str:
    """Turn the words of a category into a kind."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:63] or "event"
