"""Telemetry as a panel: a matrix of series by hours, in which what is missing is NaN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from gangplan.clock import floor_hour
from gangplan.errors import InputError
from gangplan.forecast.series.arrays import Floats, Ints, Key
from gangplan.forecast.series.jobs import Jobs, jobs_of
from gangplan.tables import DEMAND, EVENTS, conform, empty
from gangplan.types import SERIES, Usage

HOUR = timedelta(hours=1)
TOTAL: Key = ("all", "all", "all")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Hourly demand of all series from `start` on.

    values : series x hours, GPUs, NaN where telemetry is missing.
    events : what is known ahead, its future included (schema `tables.EVENTS`).
    jobs : who holds the GPUs; none where there are no job records.
    notes : what had to be mended while reading, in words.
    """

    start: datetime
    keys: tuple[Key, ...]
    values: Floats
    events: pl.DataFrame
    jobs: Jobs | None = None
    notes: tuple[str, ...] = ()

    @property
    def hours(self) -> int:
        """How many hours it has."""
        return self.values.shape[1]

    @property
    def end(self) -> datetime:
        """The end of its last hour."""
        return self.start + self.hours * HOUR

    def until(self, hours: int) -> Panel:
        """Return the first `hours` hours: all that is known at that moment (events are known ahead)."""
        jobs = None if self.jobs is None else self.jobs.known_at(hours)
        return replace(self, values=self.values[:, :hours], jobs=jobs)

    def since(self, hour: int) -> Panel:
        """Return what lies from that hour on, without job records."""
        return replace(self, start=self.start + hour * HOUR, values=self.values[:, hour:], jobs=None)

    def only(self, series: Ints) -> Panel:
        """Return those series alone, without job records."""
        keys = tuple(self.keys[int(place)] for place in series)
        return replace(self, keys=keys, values=self.values[series], jobs=None)

    def total(self) -> Panel:
        """Return the sum of all series as one, missing where any is; jobs keep their kinds."""
        jobs = None if self.jobs is None else replace(self.jobs, series=np.zeros_like(self.jobs.series))
        return replace(self, keys=(TOTAL,), values=self.values.sum(axis=0, keepdims=True), jobs=jobs)


def from_usage(usage: Usage) -> Panel:
    """Make the panel of a telemetry, up to its end."""
    return from_tables(usage.demand, usage.events, end=usage.end, jobs=usage.jobs)


def from_tables(
    demand: pl.DataFrame, events: pl.DataFrame | None, *, end: datetime, jobs: pl.DataFrame | None = None
) -> Panel:
    """Make a panel of a demand table: sorted, one value an hour; what is no demand becomes missing.

    Raises
    ------
    InputError
        When no hour before `end` has a usable value.
    """
    clean, notes = _clean(conform("demand", demand, DEMAND), end)
    first = clean.filter(pl.col("gpus").is_not_null())["hour"].min()
    if not isinstance(first, datetime):
        raise InputError(
            "demand", f"{demand.height} rows", "has no usable hour: import telemetry with `gangplan ingest`"
        )
    names, places = _numbered(clean)
    values, twice = _placed(clean, places, names.height, first, (floor_hour(end) - first) // HOUR)
    if twice:
        notes = (*notes, f"{twice} hours stand twice: their mean is taken")
    known_ahead = empty(EVENTS) if events is None else conform("events", events, EVENTS)
    keys = tuple(names.iter_rows())
    held = None if jobs is None else jobs_of(jobs, keys, first)
    seen = None if held is None else held.known_at(values.shape[1])
    return Panel(start=first, keys=keys, values=values, events=known_ahead, jobs=seen, notes=notes)


def _clean(demand: pl.DataFrame, end: datetime) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Keep whole hours before `end`, with finite demand of at least 0 or null."""
    early = demand.with_columns(pl.col("hour").dt.truncate("1h")).filter(pl.col("hour") < floor_hour(end))
    good = pl.col("gpus").is_finite() & (pl.col("gpus") >= 0)
    bad = early.filter(pl.col("gpus").is_not_null() & ~good).height
    usable = early.with_columns(pl.when(good).then(pl.col("gpus")).alias("gpus"))
    return usable, (f"{bad} hours are negative or not a number: taken as missing",) if bad else ()


def _numbered(demand: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """Return the series in order, and the place of each row's among them.

    Names are looked up once for each run of rows of one series: tables mostly have a series after the other.
    """
    runs = demand.select(pl.struct(SERIES).rle_id()).to_series().to_numpy()
    heads = demand.select(SERIES)[np.flatnonzero(np.diff(runs, prepend=-1))]
    names = heads.unique().sort(SERIES)
    found = heads.join(names.with_row_index("place"), on=list(SERIES), how="left", maintain_order="left")
    return names, found["place"].to_numpy().astype(np.int64)[runs]


def _placed(demand: pl.DataFrame, places: Ints, series: int, first: datetime, hours: int) -> tuple[Floats, int]:
    """Lay a demand out, series x hours from `first` on, the mean where an hour stands twice; and how many rows do."""
    earliest = demand["hour"].min()
    ahead = max(0, (first - earliest) // HOUR) if isinstance(earliest, datetime) else 0
    width = hours + ahead
    column: Ints = demand.select((pl.col("hour") - first).dt.total_hours() + ahead).to_series().to_numpy()
    cells = places * width + column
    gpus: Floats = demand["gpus"].to_numpy()
    known = ~np.isnan(gpus)
    count = np.bincount(cells[known], minlength=series * width)
    total = np.bincount(cells[known], gpus[known], series * width)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean.reshape(series, width)[:, ahead:], demand.height - int(np.count_nonzero(np.bincount(cells)))
