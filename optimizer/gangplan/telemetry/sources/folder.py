"""A file or a folder of gangplan's own schema, or of a public trace that is known by its header."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gangplan.clock import floor_hour
from gangplan.errors import InputError
from gangplan.tables import conform
from gangplan.telemetry.demand import fill_grid, hourly_demand
from gangplan.telemetry.rows import Checked, check, files_of, read_rows, recognise, table_specs
from gangplan.telemetry.sources import openb
from gangplan.telemetry.values import REJECTED_KEPT, TABLES, BadRow, Telemetry
from gangplan.types import SERIES


def read_path(path: Path, now: datetime) -> Telemetry:
    """Return the telemetry of a file, or of all files of a folder, each recognised by its header."""
    frames = [read_rows(file) for file in (files_of(path) if path.is_dir() else [path])]
    pods = [rows for rows in frames if openb.is_pods(rows.columns)]
    if pods:
        if any(not openb.is_pods(rows.columns) and not openb.is_nodes(rows.columns) for rows in frames):
            raise InputError("source", path, "mixes the openb trace with other tables: give each a folder of its own")
        return openb.from_pods(pl.concat(pods), str(path))
    return from_rows(frames, str(path), now)


def from_rows(frames: list[pl.DataFrame], source: str, now: datetime, *, live: bool = False) -> Telemetry:
    """Return the telemetry of rows of text: checked, with hourly demand from the jobs where none is given."""
    checked = _check_all(frames, source, now)
    rejected = [row for each in checked.values() for row in each.rejected]
    tables = {name: conform(name, each.frame, TABLES[name]) for name, each in checked.items()}
    if not any(tables[name].height for name in ("jobs", "demand") if name in tables):
        raise no_usable_row(source, rejected)
    start, end = _span(tables, source)
    made = Telemetry(
        source=source,
        start=start,
        end=end,
        rows=sum(frame.height for frame in tables.values()),
        demand=_demand(tables, start, end),
        live=live,
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=sum(each.rejected_count for each in checked.values()),
    )
    return replace(made, **{name: frame for name, frame in tables.items() if name != "demand"})


def no_usable_row(source: str, rejected: list[BadRow]) -> InputError:
    """Say that nothing could be used, and why the first row could not."""
    why = f": {rejected[0]}" if rejected else ": it needs a table of jobs or of demand (docs/telemetry.md)"
    return InputError("source", source, f"has no usable row{why}")


def _check_all(frames: list[pl.DataFrame], source: str, now: datetime) -> dict[str, Checked]:
    """Return the checked tables; files of the same table are one."""
    specs = table_specs(now)
    parts: dict[str, list[pl.DataFrame]] = {}
    for rows in frames:
        parts.setdefault(recognise(rows.columns, specs, source), []).append(rows)
    return {
        table: check(pl.concat(rows, how="diagonal"), specs[table].fields, specs[table].relations, specs[table].unique)
        for table, rows in parts.items()
    }


def _span(tables: dict[str, pl.DataFrame], source: str) -> tuple[datetime, datetime]:
    """Return the whole hours that jobs and demand cover together."""
    first: list[datetime] = []
    last: list[datetime] = []
    if "jobs" in tables and tables["jobs"].height:
        times = tables["jobs"].select(pl.col("submitted_at", "started_at", "ended_at"))
        first.extend(times.min().row(0)[:1])
        last.extend(moment for moment in times.max().row(0) if moment is not None)
    if "demand" in tables and tables["demand"].height:
        hours = tables["demand"]["hour"]
        low, high = hours.min(), hours.max()
        first.extend([low] if isinstance(low, datetime) else [])
        last.extend([high + timedelta(hours=1)] if isinstance(high, datetime) else [])
    start, end = floor_hour(min(first)), floor_hour(max(last))
    if end <= start:
        raise InputError(
            "source", source, f"covers no whole hour (from {min(first)} to {max(last)}): give a longer span"
        )
    return start, end


def _demand(tables: dict[str, pl.DataFrame], start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand that was given; series that have jobs alone are counted from these."""
    given = tables.get("demand")
    counted = hourly_demand(tables["jobs"], start, end) if "jobs" in tables else None
    if given is None:
        assert counted is not None  # noqa: S101 - from_rows refused a source with neither
        return counted
    if counted is not None:
        given = pl.concat([given, counted.join(given.select(SERIES).unique(), on=SERIES, how="anti")])
    return fill_grid(given, start, end)
