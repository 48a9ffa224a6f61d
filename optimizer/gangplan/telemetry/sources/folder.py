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


def read_path(path: Path, now: datetime) -> Telemetry:
    """Return the telemetry of a file, or of all files of a folder."""
    frames = [read_rows(file) for file in (files_of(path) if path.is_dir() else [path])]
    pods = [rows for rows in frames if openb.is_pods(rows.columns)]
    if pods:
        if any(not openb.is_pods(rows.columns) and not openb.is_nodes(rows.columns) for rows in frames):
            raise InputError("source", path, "mixes the openb trace with other tables: give each a folder of its own")
        return openb.from_pods(pl.concat(pods), str(path))
    return from_rows(frames, str(path), now)


def from_rows(frames: list[pl.DataFrame], source: str, now: datetime, *, live: bool = False) -> Telemetry:
    """Check rows of text and return their telemetry; demand that is not given is counted from the jobs."""
    checked = _check_all(frames, source, now)
    rejected = [row for table in checked.values() for row in table.rejected]
    tables = {name: conform(name, table.frame, TABLES[name]) for name, table in checked.items()}
    if not any(tables[name].height for name in ("jobs", "demand") if name in tables):
        why = f": {rejected[0]}" if rejected else ": it needs a table of jobs or of demand (docs/telemetry.md)"
        raise InputError("source", source, f"has no usable row{why}")
    start, end = _span(tables, source)
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


def _span(tables: dict[str, pl.DataFrame], source: str) -> tuple[datetime, datetime]:
    """Return the whole hours that jobs and demand cover together, as their start and end."""
    moments: list[datetime | None] = []
    if "jobs" in tables:
        times = tables["jobs"].select("submitted_at", "started_at", "ended_at")
        moments += [*times.min().row(0)[:1], *times.max().row(0)]
    if "demand" in tables:
        hours = tables["demand"].select(first=pl.col("hour").min(), last=pl.col("hour").max() + HOUR)
        moments += hours.row(0)
    known = [moment for moment in moments if moment is not None]  # the times of an empty table are null
    start, end = floor_hour(min(known)), floor_hour(max(known))
    if end <= start:
        raise InputError(
            "source", source, f"covers no whole hour (from {min(known)} to {max(known)}): give a longer span"
        )
    return start, end


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
