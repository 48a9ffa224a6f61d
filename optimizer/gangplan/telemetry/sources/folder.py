"""A file or a folder of gangplan's own tables, or of a public trace; each file is recognised by its header."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError
from gangplan.tables import conform
from gangplan.telemetry.demand import fill_grid, hourly_demand
from gangplan.telemetry.rows import Checked, check, files_of, read_rows, recognise, table_specs
from gangplan.telemetry.sources import openb
from gangplan.telemetry.values import REJECTED_KEPT, TABLES, Telemetry
from gangplan.types import SERIES


def read_path(path: Path, now: datetime, *, until: datetime | None = None, latest: datetime | None = None) -> Telemetry:
    """Return the telemetry of a file, or of all files of a folder; `until` and `latest` as for `from_rows`."""
    frames = [read_rows(file) for file in (files_of(path) if path.is_dir() else [path])]
    pods = [rows for rows in frames if openb.is_pods(rows.columns)]
    if pods:
        if any(not openb.is_pods(rows.columns) and not openb.is_nodes(rows.columns) for rows in frames):
            raise InputError("source", path, "mixes the openb trace with other tables: give each a folder of its own")
        return openb.from_pods(pl.concat(pods), str(path))
    return from_rows(frames, str(path), now, until=until, latest=latest)


def from_rows(
    frames: list[pl.DataFrame],
    source: str,
    now: datetime,
    *,
    until: datetime | None = None,
    latest: datetime | None = None,
    live: bool = False,
) -> Telemetry:
    """Check rows of text and return their telemetry; demand that is not given is counted from the jobs.

    Parameters
    ----------
    until
        When the rows were exported: jobs without an end run until then. By default the rows' last time, or now if they
        are `live`.
    latest
        No time may be after it; by default, after now.
    """
    checked = _check_all(frames, source, latest or now)
    rejected = [row for table in checked.values() for row in table.rejected]
    tables = {name: conform(name, table.frame, TABLES[name]) for name, table in checked.items()}
    if not any(tables[name].height for name in ("jobs", "demand") if name in tables):
        why = f": {rejected[0]}" if rejected else ": it needs a table of jobs or of demand (docs/telemetry.md)"
        raise InputError("source", source, f"has no usable row{why}")
    start, end = _span(tables, source, now if live else until, live=live)
    made = Telemetry(
        source=source,
        start=start,
        end=end,
        rows=sum(frame.height for frame in tables.values()),
        demand=_demand(tables, start, end),
        live=live,
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=sum(table.rejected_count for table in checked.values()),
    )
    return replace(made, **{**tables, "demand": made.demand})


def _check_all(frames: list[pl.DataFrame], source: str, now: datetime) -> dict[str, Checked]:
    """Check the tables; files of the same table count as one."""
    specs = table_specs(now)
    parts: dict[str, list[pl.DataFrame]] = {}
    for rows in frames:
        parts.setdefault(recognise(rows.columns, specs, source), []).append(rows)
    return {
        table: check(pl.concat(rows, how="diagonal"), specs[table].fields, specs[table].relations, specs[table].unique)
        for table, rows in parts.items()
    }


def _span(
    tables: dict[str, pl.DataFrame], source: str, until: datetime | None, *, live: bool
) -> tuple[datetime, datetime]:
    """Return the whole hours that jobs and demand cover together, as their start and end.

    Where it is not said `until` when, jobs that have no end hold their GPUs to the end of the hour of the last time.
    """
    asked = [*_times(tables, "jobs", "submitted_at", "started_at", "ended_at"), *_times(tables, "demand", "hour")]
    hours = [hour + HOUR for hour in _times(tables, "demand", "hour")]
    samples = [] if hours else [at for name in ("nodes", "queue", "requests") for at in _times(tables, name, "time")]
    last = max(asked + samples)
    if until is not None and last > until and not live:
        raise InputError("until", until.isoformat(), f"is before the last time, {last.isoformat()}: give a later one")
    start, end = floor_hour(min(asked)), floor_hour(until or last)
    if until is None:
        runs = "jobs" in tables and tables["jobs"]["ended_at"].has_nulls()
        end = max([end + HOUR if runs else end, *hours])
    if end <= start:
        span = f"from {min(asked)} to {until or last}"
        raise InputError("source", source, f"covers no whole hour ({span}): give a longer span")
    return start, end


def _times(tables: dict[str, pl.DataFrame], table: str, *columns: str) -> list[datetime]:
    """Return the first and the last time in each of these columns of a table, if it is there and has any."""
    if table not in tables:
        return []
    ends = [moment for name in columns for moment in (tables[table][name].min(), tables[table][name].max())]
    return [moment for moment in ends if isinstance(moment, datetime)]


def _demand(tables: dict[str, pl.DataFrame], start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand that was given; series of which only jobs were given are counted from these."""
    given = tables.get("demand")
    counted = hourly_demand(tables["jobs"], start, end) if "jobs" in tables else None
    if given is None:
        assert counted is not None  # noqa: S101 - from_rows refused a source with neither
        return counted
    if counted is not None:
        given = pl.concat([given, counted.join(given.select(SERIES).unique(), on=SERIES, how="anti")])
    return fill_grid(given, start, end)
