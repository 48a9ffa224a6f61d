"""Moves telemetry to the present: it ends at the present hour, so that the forecast starts now.

Telemetry with a calendar moves by whole weeks (a Monday stays a Monday) and is cut at the present hour. If it covers
less than two weeks it moves by whole days, below two days by whole hours, so that at least half of it is kept. A trace
without a calendar moves by whole hours. Telemetry that ends at most six hours ago is collected late: it does not move,
and its missing hours are nulls.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from gangplan.clock import HOUR, floor_hour, require_utc
from gangplan.tables import UTC_TIME
from gangplan.telemetry.demand import fill_grid
from gangplan.telemetry.values import TABLES, Telemetry

STEPS = (timedelta(weeks=1), timedelta(days=1), HOUR)
LATE = timedelta(hours=6)
"""Telemetry that ends longer ago than this is old and moves to the present."""

LONGEST = timedelta(days=1096)
"""The span that is kept; older hours do not help to forecast the next weeks."""


def align(telemetry: Telemetry, now: datetime) -> Telemetry:
    """Return the telemetry moved so that it ends at the hour of `now`."""
    present = floor_hour(require_utc("now", now))
    moved = shift(telemetry, offset(telemetry, present))
    return cut(moved, max(moved.start, present - LONGEST), present)


def offset(telemetry: Telemetry, present: datetime) -> timedelta:
    """Return by how much the telemetry has to move to reach the present hour."""
    behind = present - telemetry.end
    if telemetry.relative:
        return behind
    if behind <= LATE:
        return timedelta()
    step = next((step for step in STEPS if telemetry.end - telemetry.start >= 2 * step), HOUR)
    return -(-behind // step) * step


def shift(telemetry: Telemetry, by: timedelta) -> Telemetry:
    """Return the telemetry with every time moved by that much."""
    if not by:
        return telemetry
    times = {name: [column for column, kind in schema.items() if kind == UTC_TIME] for name, schema in TABLES.items()}
    moved = {name: frame.with_columns(pl.col(times[name]) + by) for name, frame in telemetry.tables.items()}
    return replace(telemetry, start=telemetry.start + by, end=telemetry.end + by, **moved)


def cut(telemetry: Telemetry, start: datetime, end: datetime) -> Telemetry:
    """Return what was known at `end` about the time from `start` on.

    A job that ends later is still running, one that starts later is still waiting; future events stay.
    """
    jobs = telemetry.jobs.filter(
        pl.col("submitted_at") < end, pl.col("ended_at").is_null() | (pl.col("ended_at") > start)
    ).with_columns(_unless_later("started_at", end), _unless_later("ended_at", end))
    samples = {
        name: getattr(telemetry, name).filter(pl.col("time").is_between(start, end, closed="left"))
        for name in ("nodes", "queue", "requests")
    }
    events = telemetry.events.filter(pl.col("end") > start)
    demand = fill_grid(telemetry.demand, start, end)
    return replace(telemetry, start=start, end=end, demand=demand, jobs=jobs, events=events, **samples)


def _unless_later(column: str, end: datetime) -> pl.Expr:
    """Return the time in a column, or null when it is after `end`."""
    return pl.when(pl.col(column) <= end).then(pl.col(column)).alias(column)
