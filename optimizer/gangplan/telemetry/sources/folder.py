"""A file or a folder of gangplan's own tables, or of tables that a mapping knows; each is recognised by its header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError
from gangplan.tables import DEMAND, REQUESTS, conform, empty
from gangplan.telemetry.demand import LONGEST, fill_grid, hourly_demand
from gangplan.telemetry.mappings import OfNoUse, Reading, read_table
from gangplan.telemetry.rows import (
    ENDINGS,
    PLACE,
    Checked,
    TableRows,
    TableSpec,
    files_of,
    is_table,
    judge,
    read,
    request_log,
    table_specs,
)
from gangplan.telemetry.timing import SAMPLES
from gangplan.telemetry.values import REJECTED_KEPT, TABLES, Telemetry
from gangplan.types import SERIES

_ASKED = ("jobs", "demand", "requests")
"""Telemetry has at least one of these tables."""


def read_path(
    path: Path,
    now: datetime,
    reading: Reading | None = None,
    *,
    until: datetime | None = None,
    latest: datetime | None = None,
    as_of: datetime | None = None,
) -> Telemetry:
    """Return the telemetry of a file, or of all files of a folder; `until`, `latest`, `as_of` as for `from_rows`.

    Raises
    ------
    InputError
        When a file cannot be read, is no table that is known, or none has a usable row.
    """
    if not path.is_dir():
        return _of_tables([_read(path, now, reading)], str(path), now, until=until, latest=latest, as_of=as_of)
    rows: list[TableRows] = []
    notes: list[str] = []
    for file in files_of(path):
        try:
            rows.append(_read(file, now, reading))
        except OfNoUse as error:
            notes.append(f"{file.name} was left out: it {error.remedy}")
        except InputError as error:
            if is_table(file):
                raise
            notes.append(f"{file.name} was left out, since it is no table that is known: it {error.remedy}")
    if not rows:
        why = f" ({notes[0]})" if notes else ""
        raise InputError("source", path, f"has no table: put {', '.join(ENDINGS)} files there (docs/telemetry.md){why}")
    return _of_tables(rows, str(path), now, until=until, latest=latest, as_of=as_of, notes=notes)


def from_rows(
    frames: list[pl.DataFrame],
    source: str,
    now: datetime,
    *,
    until: datetime | None = None,
    latest: datetime | None = None,
    as_of: datetime | None = None,
    live: bool = False,
) -> Telemetry:
    """Check rows of text of the table of jobs and return their telemetry; the demand is counted from the jobs.

    Parameters
    ----------
    until
        When the rows were exported: jobs without an end run until then. By default the rows' last time, or now if they
        are `live`.
    latest
        No time may be after it; by default, after now.
    as_of
        The moment as of which they are wanted, by default now: the hours of the three years before it are counted.
    """
    rows = [TableRows(table="jobs", frame=frame) for frame in frames]
    return _of_tables(rows, source, now, until=until, latest=latest, as_of=as_of, live=live)


def _read(file: Path, now: datetime, reading: Reading | None) -> TableRows:
    """Return the rows of a file as those of one of gangplan's tables."""
    return read_table(file, table_specs(now), reading or Reading())


def _of_tables(
    rows: Sequence[TableRows],
    source: str,
    now: datetime,
    *,
    until: datetime | None,
    latest: datetime | None,
    as_of: datetime | None,
    live: bool = False,
    notes: Sequence[str] = (),
) -> Telemetry:
    """Check rows and return their telemetry; demand that is not given is counted from the jobs."""
    if len({each.relative for each in rows}) > 1:
        remedy = "mixes a trace without a calendar with tables that have one: give each a folder of its own"
        raise InputError("source", source, remedy)
    latest = latest or now
    checked = _check_all(rows, latest)
    rejected = [row for table in checked.values() for row in table.rejected]
    rejected_count = sum(table.rejected_count for table in checked.values())
    tables = {name: conform(name, table.frame, TABLES[name]) for name, table in checked.items()}
    said = [*notes, *_notes(rows), *(note for table in checked.values() for note in table.notes)]
    span = next((each.span for each in rows if each.span), None)
    outside = 0 if span is None else _cut(tables, *span)
    if outside:
        said.append(f"{outside:,} jobs left out: they lie outside the hours that are used of this trace")
    if not any(tables[name].height for name in _ASKED if name in tables):
        why = rejected[0] if rejected else "; ".join(said) or f"it needs a table of {', of '.join(_ASKED)}"
        raise InputError("source", source, f"has no usable row: {why} (docs/telemetry.md)")
    if not any(tables[name].height for name in ("jobs", "demand") if name in tables):
        said.append(
            "there are requests alone: `gangplan forecast minutes --of requests` uses them; a plan needs demand"
        )
    unused = [each.last for each in rows if each.last and each.last <= latest]
    start, end = span or _span(tables, source, now if live else until, live=live, unused=unused)
    made = Telemetry(
        source=source,
        start=start,
        end=end,
        rows=sum(each.frame.height for each in rows) - rejected_count - outside,
        demand=_demand(tables, start, end, as_of or now),
        live=live,
        relative=rows[0].relative,
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=rejected_count,
        skipped=sum(each.skipped for each in rows) + outside,
        notes=tuple(dict.fromkeys(said)),
    )
    return replace(made, **{**tables, "demand": made.demand})


def _notes(rows: Iterable[TableRows]) -> list[str]:
    """Return what the readers say."""
    return [note for each in rows for note in each.notes]


def _check_all(rows: Sequence[TableRows], now: datetime) -> dict[str, Checked]:
    """Check the tables; files of the same table count as one."""
    specs = table_specs(now)
    return {
        name: _check(name, [each for each in rows if each.table == name], specs, now)
        for name in specs
        if name in {each.table for each in rows}
    }


def _check(name: str, rows: Sequence[TableRows], specs: dict[str, TableSpec], now: datetime) -> Checked:
    """Check the rows of one table; a log of requests is counted."""
    parts: list[Checked] = []
    for step in {each.counted_by for each in rows if each.counted_by}:
        log = _checked(request_log(now), [each for each in rows if each.counted_by == step])
        parts.append(replace(log, frame=_per_second(log.frame, step), notes=(*log.notes, _counted(step))))
    if tables := [each for each in rows if not each.counted_by]:
        parts.append(_checked(specs[name], tables))
    return Checked(
        frame=pl.concat([part.frame for part in parts], how="diagonal"),
        rejected=tuple(row for part in parts for row in part.rejected),
        rejected_count=sum(part.rejected_count for part in parts),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _checked(spec: TableSpec, rows: Sequence[TableRows]) -> Checked:
    """Read and check rows; a wrong one is named as its file names the column."""
    names = {
        f"{each.frame.row(0)[each.frame.get_column_index(PLACE)]}": each.names for each in rows if each.frame.height
    }
    read_rows = [read(each.frame, spec.fields, each.zone, spec.unique) for each in rows]
    found = judge(
        pl.concat([frame for frame, _ in read_rows], how="diagonal"), spec.fields, spec.relations, spec.unique
    )
    rejected = tuple(replace(row, field=names.get(row.place, {}).get(row.field, row.field)) for row in found.rejected)
    notes = tuple(note for _, said in read_rows for note in said)
    return replace(found, rejected=rejected, notes=notes)


def _per_second(log: pl.DataFrame, step: timedelta) -> pl.DataFrame:
    """Return requests per second in each step from a tenant's first request to its last (REQUESTS)."""
    counted = log.group_by(pl.col("time").dt.truncate(step), "tenant").agg(pl.len().alias("count"))
    first, last = counted["time"].min(), counted["time"].max()
    if isinstance(first, datetime) and isinstance(last, datetime) and last - first > LONGEST:
        remedy = f"to {last:%Y-%m-%d} is too long for a log of requests: correct the wrong time, or give three years"
        raise InputError("time", f"{first:%Y-%m-%d}", remedy)
    spans = counted.group_by("tenant").agg(
        pl.datetime_ranges(pl.col("time").min(), pl.col("time").max(), step).alias("time")
    )
    every = spans.explode("time").join(counted, on=["time", "tenant"], how="left")
    rate = (pl.col("count").fill_null(0) / step.total_seconds()).alias("requests_per_second")
    return conform("requests", every.with_columns(rate).sort("tenant", "time"), REQUESTS)


def _counted(step: timedelta) -> str:
    """Say that requests were counted."""
    minutes = step.total_seconds() / 60
    return f"requests were counted in steps of {minutes:g} min; those at both ends of a log may be cut short"


def _cut(tables: dict[str, pl.DataFrame], start: datetime, end: datetime) -> int:
    """Keep the jobs that asked within the span that a mapping gives, and return how many did not."""
    jobs = tables["jobs"]
    tables["jobs"] = jobs.filter(pl.col("submitted_at") < end, pl.col("ended_at").fill_null(end) > start)
    return jobs.height - tables["jobs"].height


def _span(
    tables: dict[str, pl.DataFrame], source: str, until: datetime | None, *, live: bool, unused: Sequence[datetime]
) -> tuple[datetime, datetime]:
    """Return the whole hours that the tables cover together, as their start and end; `unused` are times without use.

    Where it is not said `until` when, jobs that have no end hold their GPUs to the end of the hour of the last time.
    """
    asked = [*_times(tables, "jobs", "submitted_at", "started_at", "ended_at"), *_times(tables, "demand", "hour")]
    hours = [hour + HOUR for hour in _times(tables, "demand", "hour")]
    samples = [] if hours else [at for name in SAMPLES for at in _times(tables, name, "time")]
    first, last = min(asked or samples), max([*asked, *samples, *unused])
    if until is not None and last > until and not live:
        raise InputError("until", until.isoformat(), f"is before the last time, {last.isoformat()}: give a later one")
    start, end = floor_hour(first), floor_hour(until or last)
    if until is None:
        runs = "jobs" in tables and tables["jobs"]["ended_at"].has_nulls()
        short = end <= start and not asked  # a log of requests of less than an hour counts as that hour
        end = max([end + HOUR if runs or short else end, *hours])
    if end <= start:
        span = f"from {first} to {until or last}"
        raise InputError("source", source, f"covers no whole hour ({span}): give a longer span")
    return start, end


def _times(tables: dict[str, pl.DataFrame], table: str, *columns: str) -> list[datetime]:
    """Return the first and the last time in each of these columns of a table, if it is there and has any."""
    if table not in tables:
        return []
    ends = [moment for name in columns for moment in (tables[table][name].min(), tables[table][name].max())]
    return [moment for moment in ends if isinstance(moment, datetime)]


def _demand(tables: dict[str, pl.DataFrame], start: datetime, end: datetime, as_of: datetime) -> pl.DataFrame:
    """Return the demand that was given; series of which only jobs were given are counted from these.

    One wrong date would make decades of hours: those that `delivered` leaves out are not made first.
    """
    given = tables.get("demand")
    known = None if given is None or "jobs" in tables else given.drop_nulls("gpus")["hour"].max()
    last = known + HOUR if isinstance(known, datetime) else end
    start = max(start, min(last, floor_hour(as_of)) - LONGEST)
    if "jobs" not in tables:
        return empty(DEMAND) if given is None else fill_grid(given, start, end)  # none: requests alone
    counted = hourly_demand(tables["jobs"], start, end)
    if given is None:
        return counted
    counted = counted.join(given.select(SERIES).unique(), on=SERIES, how="anti")
    return fill_grid(pl.concat([given, counted]), start, end)
