"""Announcements: releases, campaigns, holidays, planned jobs and targets of growth, from the calendars of people.

A source is a CSV or Parquet file, an iCalendar file (calendars/), `holidays:DE` (or `holidays:DE-BY`), or
`mlflow+<tracking URI>`, where runs with the tag gangplan.event.kind are events. The newest announcements of a source
replace its earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from mlflow.entities import Run

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.tables import ANNOUNCED, EVENTS, conform, empty
from gangplan.telemetry.calendars import Event as CalendarEvent, Window, read_calendar
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
    require_zone,
    value_of,
)
from gangplan.telemetry.sources import tagged_runs
from gangplan.telemetry.values import REJECTED_KEPT, BadRow, digest_of, notes_tag
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import Usage, WorkloadClass
from gangplan.urls import shown

ANNOUNCEMENT = {"kind": "announced"}
SUPERSEDED = "announced before"
"""The kind of a run that a later one of the same source has replaced."""

JOB, TARGET = "job", "target"
CONFIRMED, TENTATIVE, CANCELLED = "confirmed", "tentative", "cancelled"
BACK, AHEAD = timedelta(days=1096), timedelta(days=366)
"""How far before and after now a calendar is read, since it may have no end."""

_TAG = "gangplan.event."
_SOURCES = "a CSV or Parquet file, an .ics file, holidays:DE or mlflow+<tracking URI>"
_ALL_RUNS = 50_000  # the most that MLflow returns at once


@dataclass(frozen=True, kw_only=True)
class Announcements:
    """The announcements of a source: the run that keeps them, the rows (tables.ANNOUNCED), the rejected ones, notes."""

    run_id: str
    source: str
    rows: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0
    notes: tuple[str, ...] = ()


def announce(source: str, store: Store, *, clock: Clock, zone: str = "") -> Announcements:
    """Keep the announcements of a source as a run of MLflow, from where every later forecast reads them.

    `zone` is the time zone of times and days that do not say theirs. The run is marked as the newest of its source. If
    that says the same already, nothing is written.

    Raises
    ------
    InputError
        When the source does not exist, is of an unknown kind, or has no usable row; nothing was written. A calendar in
        which nothing is wrong may be empty: what it said before no longer holds.
    """
    told = _told(source, clock(), require_zone(zone))
    checked = check(told.rows, SPEC.fields, SPEC.relations, zone=zone)
    rejected, count = (*told.rejected, *checked.rejected), len(told.rejected) + checked.rejected_count
    cancelled = pl.col("status") == CANCELLED
    notes = [*told.notes, *checked.notes]
    if left_out := checked.frame.filter(cancelled).height:
        notes.append(f"{left_out} cancelled: left out")
    sure = checked.frame.filter(~cancelled.fill_null(value=False))
    rows = conform("announced", sure, ANNOUNCED).unique(maintain_order=True).sort("start", "kind")
    if not rows.height and (count or not told.may_be_empty):
        why = f": {rejected[0]}" if rejected else f": give {_SOURCES} with at least one row"
        raise InputError("source", source, f"has no usable row{why}")
    source = shown(source)
    return Announcements(
        run_id=_keep(source, rows, notes, store),
        source=source,
        rows=rows,
        rejected=rejected[:REJECTED_KEPT],
        rejected_count=count,
        notes=tuple(notes),
    )


def read_announced(store: Store) -> pl.DataFrame:
    """Return the newest announcements of all sources (tables.ANNOUNCED)."""
    tables = [store.read_table(runs[0].info.run_id, "announced") for _, runs in sorted(_newest(store).items())]
    together = pl.concat([empty(ANNOUNCED), *tables], how="diagonal")  # older tables have fewer columns
    return together.unique(maintain_order=True).sort("start", "kind")


def _keep(source: str, rows: pl.DataFrame, notes: Sequence[str], store: Store) -> str:
    """Write the rows as the newest of their source, unless they are that already; return the run."""
    sha256 = table_sha256(rows)
    before = _newest(store).get(source, [])
    if before and before[0].data.tags.get("sha256") == sha256:
        return before[0].info.run_id
    tags = {**ANNOUNCEMENT, "source": source, "sha256": sha256, "notes": notes_tag(notes)}
    with store.run(TELEMETRY, f"announced {source}"[:250], tags) as run_id:
        store.log_table(run_id, "announced", rows)
    for run in before:
        store.client.set_tag(run.info.run_id, "kind", SUPERSEDED)
    return run_id


def _newest(store: Store) -> dict[str, list[Run]]:
    """Return the runs of each source that no later one has replaced, the newest first."""
    newest: dict[str, list[Run]] = {}
    for run in store.runs(TELEMETRY, ANNOUNCEMENT, limit=_ALL_RUNS):
        newest.setdefault(run.data.tags["source"], []).append(run)
    return newest


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
            one_of("status", (CONFIRMED, TENTATIVE, CANCELLED), optional=True),
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


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a source says: rows of text, the wrong ones that are none, notes, and whether it may say nothing."""

    rows: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
    may_be_empty: bool = False


def _told(source: str, now: datetime, zone: str) -> _Told:
    """Read a source."""
    if source.startswith("holidays:"):
        days = _as_rows(_holidays(source, now, ZoneInfo(zone or "UTC")), source)
        return _Told(rows=days, notes=(f"whole days count in {zone or 'UTC'}",))
    if source.startswith("mlflow+"):
        return _Told(rows=_as_rows(_tagged(source.removeprefix("mlflow+")), shown(source)))
    if source.lower().endswith((".ics", ".ical", ".ifb", ".icalendar")):
        calendar = read_calendar(Path(source), Window(first=now - BACK, now=now, last=now + AHEAD), zone=zone)
        rows = _as_rows(map(_entry, calendar.events), Path(source).name)
        return _Told(rows=rows, rejected=calendar.rejected, notes=calendar.notes, may_be_empty=True)
    rows = read_rows(Path(source))
    missing = [column for column in ("start", "end", "kind") if column not in rows.columns]
    if missing:
        raise InputError(", ".join(missing), source, "lacks that column: give start, end and kind (docs/events.md)")
    unknown = [column for column in rows.columns if column not in (*ANNOUNCED, LINE, PLACE, FAULT)]
    return _Told(rows=rows, notes=tuple(f"column {column!r} is not read (docs/events.md)" for column in unknown))


def _as_rows(entries: Iterable[Mapping[str, str | int | None]], source: str) -> pl.DataFrame:
    """Return entries as rows of text with their line, else with their number."""
    named = [
        {**dict.fromkeys(ANNOUNCED), LINE: number, **entry, PLACE: source, FAULT: None}
        for number, entry in enumerate(entries, start=1)
    ]
    text = dict.fromkeys((*ANNOUNCED, PLACE, FAULT), pl.String())
    return pl.DataFrame(named, schema={**text, LINE: pl.Int64()})


def _entry(event: CalendarEvent) -> dict[str, str | int | None]:
    """Return an event of a calendar as an entry."""
    times = {"start": _moment(event.start), "end": _moment(event.end)}
    return {**event.columns, **times, "status": event.status or None, LINE: event.line}


def _holidays(source: str, now: datetime, zone: ZoneInfo) -> Iterator[dict[str, str | None]]:
    """Yield the public holidays of a country, or of a part of it, as whole days of a zone."""
    import holidays

    country, _, part = source.removeprefix("holidays:").partition("-")
    years = range((now - BACK).year, (now + AHEAD).year + 1)
    try:
        days = holidays.country_holidays(country, subdiv=part or None, years=years)
    except NotImplementedError as error:
        raise InputError("source", source, f"is no country that is known ({error}): give it like DE or DE-BY") from None
    for day in sorted(days):
        start, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
        yield {"kind": "holiday", "start": _moment(start), "end": _moment(end)}


def _tagged(uri: str) -> Iterator[dict[str, str | None]]:
    """Yield the runs that are tagged as events; without tags for them, the run's own start and end count."""
    for run in tagged_runs(uri, f"{_TAG}kind", _TAG):
        ends = None if run.end is None else _moment(run.end)
        yield {"start": _moment(run.start), "end": ends} | {
            column: value for column, value in run.tags.items() if column in ANNOUNCED
        }


def _moment(value: datetime) -> str:
    """Write a time in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
