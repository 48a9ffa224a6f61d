"""When telemetry took place: its times are kept, what comes after the present is not known, a replay is asked for.

A source's telemetry ends with its last whole hour. How old that hour is, the forecast says; nothing moves by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import polars as pl

from gangplan.clock import HOUR, floor_hour, in_words, parse_utc, require_utc
from gangplan.errors import InputError
from gangplan.tables import UTC_TIME
from gangplan.telemetry.demand import LONGEST, fill_grid
from gangplan.telemetry.values import TABLES, Telemetry
from gangplan.types import Usage

STEPS = (timedelta(weeks=1), timedelta(days=1), HOUR)
LATE = timedelta(hours=6)
"""A replay leaves telemetry that ends at most so long ago where it is."""

_ALWAYS = datetime.max.replace(tzinfo=UTC)

SAMPLES = ("nodes", "queue", "requests")

Timed = TypeVar("Timed", Telemetry, Usage)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a user says about the times of a source.

    `until` is when a file was exported ("now", or a time): jobs without an end run until then. `replay` moves an old
    trace to the present, for trial; `at` is the moment of the trace that becomes the present, by default its end.
    `walks` says that a trace is walked through: what comes after now is not known yet, else a time after now is wrong.
    """

    until: str = ""
    replay: bool = False
    at: str = ""
    walks: bool = False

    def __post_init__(self) -> None:
        if self.at and not self.replay:
            raise InputError("at", self.at, "is the moment of a trace that is replayed: give --replay with it")

    def latest(self, now: datetime) -> datetime:
        """Return the moment after which a time is wrong."""
        return _ALWAYS if self.walks else now

    def export_time(self, source: str, now: datetime, *, live: bool) -> datetime | None:
        """Return `until` as a time; none where it was not said."""
        if not self.until:
            return None
        if live:
            raise InputError("until", self.until, f"is for files: {source} ends at the present by itself")
        until = now if self.until == "now" else parse_utc("until", self.until)
        if until > now:
            raise InputError("until", self.until, f"is after now, {now.isoformat()}: give that time or an earlier one")
        return until

    def placed(self, telemetry: Telemetry, now: datetime) -> Telemetry:
        """Return the telemetry as of now: replayed if that was asked for, else with its own times."""
        if self.replay:
            return replayed(telemetry, now, self.at)
        if telemetry.relative:
            remedy = "has no calendar, its times count from its own start: give --replay, so that it ends now"
            raise InputError("source", telemetry.source, remedy)
        return telemetry


def delivered(telemetry: Telemetry, now: datetime) -> Telemetry:
    """Return the whole hours up to the last known one before now, the newest three years; every time stays as it is."""
    last = telemetry.demand.filter(pl.col("gpus").is_not_null(), pl.col("hour") < telemetry.end)["hour"].max()
    known = last + HOUR if isinstance(last, datetime) else telemetry.end
    end = min(known, floor_hour(require_utc("now", now)))
    start = max(telemetry.start, end - LONGEST)
    if (start, end) == (telemetry.start, telemetry.end):
        return telemetry
    jobs = telemetry.jobs.filter(pl.col("ended_at").is_null() | (pl.col("ended_at") > start))
    events = telemetry.events.filter(pl.col("end") > start)
    samples = {name: getattr(telemetry, name).filter(pl.col("time") >= start) for name in SAMPLES}
    notes = telemetry.notes
    if start > telemetry.start:
        notes = (*notes, f"what lies before {start:%Y-%m-%d %H:00} was left out: {LONGEST.days} days are kept")
    demand = fill_grid(telemetry.demand, start, end)
    return replace(telemetry, start=start, end=end, demand=demand, jobs=jobs, events=events, notes=notes, **samples)


def known_at(timed: Timed, now: datetime) -> Timed:
    """Return what was known at the full hour before `now`: a job that ends later runs, one that starts later waits.

    Events that lie ahead stay.
    """
    end = floor_hour(require_utc("now", now))
    if end >= timed.end:
        return timed
    jobs = timed.jobs.filter(pl.col("submitted_at") < end).with_columns(
        pl.when(pl.col(column) <= end).then(pl.col(column)).alias(column) for column in ("started_at", "ended_at")
    )
    samples = {name: getattr(timed, name).filter(pl.col("time") < end) for name in SAMPLES}
    demand = timed.demand.filter(pl.col("hour") < end)
    return replace(timed, end=end, demand=demand, jobs=jobs, **samples)


def replayed(telemetry: Telemetry, now: datetime, at: str = "") -> Telemetry:
    """Return a trace moved to the present hour and cut there; a note says by how much.

    It moves by whole weeks, so that a Monday stays a Monday; less than two weeks move by whole days, less than two days
    and a trace without a calendar by whole hours. So at least half of it is kept.
    """
    present = floor_hour(require_utc("now", now))
    seen = telemetry if not at else _seen_at(telemetry, at)
    by = offset(seen, present)
    moved = delivered(known_at(shift(seen, by), now), now)
    if not by:
        return moved
    note = (
        f"replayed: every time was moved by {in_words(by)}, from {seen.start:%Y-%m-%d %H:00} to "
        f"{seen.start + by:%Y-%m-%d %H:00}, so that {present - by:%Y-%m-%d %H:00} is the present"
    )
    return replace(moved, notes=(note, *moved.notes))


def _seen_at(telemetry: Telemetry, at: str) -> Telemetry:
    """Return what was known at a moment of the trace's own."""
    if telemetry.relative:
        raise InputError("at", at, "cannot be given, for the trace has no calendar: leave it out")
    moment = parse_utc("at", at)
    if not telemetry.start < moment <= telemetry.end:
        span = f"{telemetry.start.isoformat()} and {telemetry.end.isoformat()}"
        raise InputError("at", at, f"is not in the trace: give a time between {span}")
    return known_at(telemetry, moment)


def offset(telemetry: Telemetry, present: datetime) -> timedelta:
    """Return by how much a trace has to move to reach the present hour."""
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
