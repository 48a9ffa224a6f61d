"""Telemetry as a panel: a matrix of series by hours, in which what is missing is NaN; which series can be learned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

import numpy as np
import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError
from gangplan.forecast.series.arrays import Bools, Floats, Ints, Key, known_mean, ratio
from gangplan.tables import DEMAND, EVENTS, JOBS, conform, empty
from gangplan.types import SERIES, Usage

LEAST_HOURS = 240  # ten days: less cannot show a weekly cycle and its errors
VANISHED_HOURS = 168


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Jobs with their times in hours from a panel's start; a job counts as demand from its submission on.

    series : the row of the panel that each job counts to.
    kind : its place in `kinds`, the series that it was recorded for.
    ended : infinite while it waits or runs.
    """

    series: Ints
    kind: Ints
    gpus: Floats
    submitted: Floats
    ended: Floats
    kinds: tuple[Key, ...]

    def known_at(self, hour: float) -> Jobs:
        """Hide the jobs submitted from that hour on, and the ends after it."""
        seen = self.submitted < hour
        kept = {name: getattr(self, name)[seen] for name in ("series", "kind", "gpus", "submitted", "ended")}
        return replace(self, **kept | {"ended": np.where(kept["ended"] <= hour, kept["ended"], np.inf)})


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Demand of all series by the hour (or by another `step`), from `start` on.

    values : series x hours, GPUs, NaN where telemetry is missing.
    events : what is known ahead, also of hours after the panel's end (schema `tables.EVENTS`).
    jobs : who holds the GPUs; none where there are no job records.
    notes : what had to be mended while reading, one sentence each.
    """

    start: datetime
    step: timedelta = HOUR
    keys: tuple[Key, ...]
    values: Floats
    events: pl.DataFrame = field(default_factory=lambda: empty(EVENTS))
    jobs: Jobs | None = None
    notes: tuple[str, ...] = ()

    @property
    def hours(self) -> int:
        """The number of hours (of steps, where a step is no hour)."""
        return self.values.shape[1]

    @property
    def end(self) -> datetime:
        """The end of its last hour."""
        return self.start + self.hours * self.step

    @property
    def levels(self) -> Floats:
        """The mean demand of each series, by which it is scaled; 1 where there is none."""
        mean = known_mean(self.values, axis=1)
        return np.where(mean > 0, mean, 1.0)

    def until(self, hours: int) -> Self:
        """Return the first `hours` hours: all that is known at that moment (events are known ahead)."""
        jobs = None if self.jobs is None else self.jobs.known_at(hours)
        return replace(self, values=self.values[:, :hours], jobs=jobs)

    def since(self, hour: int) -> Panel:
        """Return what lies from that hour on, without job records."""
        return replace(self, start=self.start + hour * HOUR, values=self.values[:, hour:], jobs=None)

    def only(self, series: Ints) -> Panel:
        """Return those series alone, without job records."""
        keys = tuple(self.keys[int(row)] for row in series)
        return replace(self, keys=keys, values=self.values[series], jobs=None)

    def span(self, start: datetime, end: datetime) -> tuple[int, int]:
        """Return the hours that a stretch of time touches: the first, and the one after the last, from the start on."""
        return (start - self.start) // HOUR, -((self.start - end) // HOUR)

    def rows_of(self, tenant: str | None) -> list[int]:
        """Return the rows of a tenant's series; those of all tenants where none is named."""
        return [row for row, key in enumerate(self.keys) if tenant in (None, key[0])]

    def has_event(self, kinds: Collection[str] | None = None) -> Bools:
        """Return which hours of which series lie in an event of those kinds, of any kind if none are named."""
        busy = np.zeros(self.values.shape, dtype=bool)
        events = self.events if kinds is None else self.events.filter(pl.col("kind").is_in(kinds))
        for start, end, _, tenant in events.iter_rows():
            first, after = self.span(start, end)
            busy[self.rows_of(tenant), max(0, first) : max(0, after)] = True
        return busy


def from_usage(usage: Usage) -> Panel:
    """Make the panel of a telemetry up to its end."""
    return from_tables(usage.demand, usage.events, end=usage.end, jobs=usage.jobs)


def from_tables(
    demand: pl.DataFrame, events: pl.DataFrame | None, *, end: datetime, jobs: pl.DataFrame | None = None
) -> Panel:
    """Make a panel of a demand table: sorted, one value an hour; what is no demand becomes missing."""
    clean, notes = _clean(conform("demand", demand, DEMAND), end)
    first = clean.filter(pl.col("gpus").is_not_null())["hour"].min()
    if not isinstance(first, datetime):
        remedy = "has no usable hour: import telemetry with `gangplan ingest`"
        raise InputError("demand", f"{demand.height} rows", remedy)
    names, places = _numbered(clean)
    values, twice = _placed(clean, places, names.height, first, (floor_hour(end) - first) // HOUR)
    if twice:
        notes = (*notes, f"{twice} hours stand twice: their mean is taken")
    known_ahead = empty(EVENTS) if events is None else conform("events", events, EVENTS)
    keys = tuple(names.iter_rows())
    records = None if jobs is None else _jobs_of(jobs, keys, first, values.shape[1])
    return Panel(start=first, keys=keys, values=values, events=known_ahead, jobs=records, notes=notes)


def _jobs_of(table: pl.DataFrame, keys: tuple[Key, ...], start: datetime, hours: int) -> Jobs | None:
    """Read what is known of jobs (`tables.JOBS`) after so many hours; none where there is no job of those series."""
    places = pl.DataFrame([(*key, place) for place, key in enumerate(keys)], [*SERIES, "place"], orient="row")
    usable = conform("jobs", table, JOBS).filter(pl.col("gpus") > 0, pl.col("submitted_at").is_not_null())
    jobs = usable.join(places, on=list(SERIES), how="inner")
    if not jobs.height:
        return None

    submitted, ended = (
        ((jobs[name] - start).dt.total_microseconds().cast(pl.Float64) / 3.6e9).fill_null(float("inf")).to_numpy()
        for name in ("submitted_at", "ended_at")
    )
    place, gpus = jobs["place"].cast(pl.Int64).to_numpy(), jobs["gpus"].to_numpy()
    records = Jobs(series=place, kind=place, gpus=gpus, submitted=submitted, ended=ended, kinds=keys)
    return records.known_at(hours)


def _clean(demand: pl.DataFrame, end: datetime) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Keep whole hours before `end`, with finite demand of at least 0 or null."""
    early = demand.with_columns(pl.col("hour").dt.truncate("1h")).filter(pl.col("hour") < floor_hour(end))
    good = pl.col("gpus").is_finite() & (pl.col("gpus") >= 0)
    bad = early.filter(pl.col("gpus").is_not_null() & ~good).height
    usable = early.with_columns(pl.when(good).then(pl.col("gpus")).alias("gpus"))
    return usable, (f"{bad} hours are negative or not a number: taken as missing",) if bad else ()


def _numbered(demand: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """Return the series in order, and for each row of the table the place of its series among them.

    Tables mostly list one series after the other, so a name is looked up once for each run of equal rows.
    """
    runs = demand.select(pl.struct(SERIES).rle_id()).to_series().to_numpy()
    heads = demand.select(SERIES)[np.flatnonzero(np.diff(runs, prepend=-1))]
    names = heads.unique().sort(SERIES)
    numbered = heads.join(names.with_row_index("place"), on=list(SERIES), how="left", maintain_order="left")
    return names, numbered["place"].to_numpy().astype(np.int64)[runs]


def _placed(demand: pl.DataFrame, places: Ints, series: int, first: datetime, hours: int) -> tuple[Floats, int]:
    """Lay demand out as series x hours from `first` on, the mean where an hour stands twice; also count such rows.

    Times before `first` hold no usable value: they are counted, and cut off.
    """
    earliest = demand["hour"].min()
    ahead = max(0, (first - earliest) // HOUR) if isinstance(earliest, datetime) else 0
    width = hours + ahead
    column: Ints = demand.select((pl.col("hour") - first).dt.total_hours() + ahead).to_series().to_numpy()
    cells = places * width + column
    gpus: Floats = demand["gpus"].to_numpy()
    known = ~np.isnan(gpus)
    count = np.bincount(cells[known], minlength=series * width)
    total = np.bincount(cells[known], gpus[known], series * width)
    return ratio(total, count).reshape(series, width)[:, ahead:], demand.height - int(
        np.count_nonzero(np.bincount(cells))
    )


@dataclass(frozen=True, kw_only=True)
class SeriesStatus:
    """A series, and in `problem` why it is not learned; empty when it is. One that has vanished is forecast as 0."""

    key: Key
    problem: str = ""
    vanished: bool = False

    @property
    def note(self) -> str:
        """The problem as a sentence that names the series."""
        return f"{' / '.join(self.key)}: {self.problem}"


def status_of_series(panel: Panel) -> tuple[SeriesStatus, ...]:
    """Judge every series by what the panel holds of it."""
    return tuple(_judge(key, row) for key, row in zip(panel.keys, panel.values, strict=True))


def learnable_rows(panel: Panel) -> Ints:
    """Return the rows of the series that can be learned."""
    return np.array([row for row, status in enumerate(status_of_series(panel)) if not status.problem], dtype=np.int64)


def _judge(key: Key, values: Floats) -> SeriesStatus:
    known = np.flatnonzero(~np.isnan(values))
    silent = values.size if not known.size else values.size - 1 - int(known[-1])
    if not known.size or silent >= VANISHED_HOURS:
        problem = f"vanished, no sample for {silent} h: forecast as 0; mend its telemetry if it still runs"
        return SeriesStatus(key=key, problem=problem, vanished=True)
    if known.size < LEAST_HOURS:
        problem = f"{known.size} h of history, {LEAST_HOURS} are needed: naive forecast, wide where its errors are few"
        return SeriesStatus(key=key, problem=problem)
    highest, lowest = values[known].max(), values[known].min()
    if highest == 0:
        return SeriesStatus(key=key, problem="no demand in any hour: forecast as 0")
    if highest == lowest:
        return SeriesStatus(key=key, problem=f"constant at {highest:g} GPUs: repeated as it is")
    return SeriesStatus(key=key)
