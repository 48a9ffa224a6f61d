"""Jobs -> hourly demand: the GPUs asked for, running or queued, as the time-weighted mean of each hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.tables import DEMAND, conform
from gangplan.types import SERIES

Floats: TypeAlias = NDArray[np.float64]

HOUR = timedelta(hours=1)


def hourly_demand(jobs: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand of each series in `jobs` (JOBS) for every hour from `start` up to `end` (DEMAND).

    A job is asked for from its submission to its end; one without an end is asked for up to `end`.
    """
    hours = hours_between(start, end)
    parts = [
        frame_of_series(key, hours, mean_by_hour(*_spans(part, start, end), part["gpus"].to_numpy(), len(hours)))
        for key, part in sorted(jobs.partition_by(SERIES, as_dict=True).items())
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=DEMAND)


def hours_between(start: datetime, end: datetime) -> pl.Series:
    """Return the starts of the hours from `start` up to, not including, `end`."""
    return pl.datetime_range(start, end, HOUR, closed="left", time_unit="us", eager=True).alias("hour")


def mean_by_hour(starts: Floats, ends: Floats, gpus: Floats, hours: int) -> Floats:
    """Return the mean of GPUs held in each of `hours` hours by intervals given in hours from the first.

    The integral of the step function at time t is (sum of gpus started by t) * t - (sum of gpus * start), less the same
    for the ends: two sorted cumulative sums instead of a loop over jobs and hours.
    """
    edges = np.arange(hours + 1, dtype=np.float64)
    integral = _ramp(starts, gpus, edges) - _ramp(ends, gpus, edges)
    return np.maximum(np.diff(integral), 0.0).round(6)


def frame_of_series(key: tuple[object, ...], hours: pl.Series, gpus: Floats) -> pl.DataFrame:
    """Return one series' rows of a DEMAND table."""
    named = {name: pl.lit(value) for name, value in zip(SERIES, key, strict=True)}
    frame = pl.DataFrame({"hour": hours, "gpus": gpus}).with_columns(**named)
    return conform("demand", frame, DEMAND)


def fill_grid(demand: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand with a row for every series and hour from `start` up to `end`; a missing one is null."""
    keys = demand.select(SERIES).unique().sort(SERIES)
    grid = keys.join(pl.DataFrame({"hour": hours_between(start, end)}), how="cross")
    filled = grid.join(demand, on=["hour", *SERIES], how="left").sort([*SERIES, "hour"])
    return conform("demand", filled, DEMAND)


def _ramp(at: Floats, gpus: Floats, edges: Floats) -> Floats:
    """Return the integral, up to each edge, of GPUs that begin at `at` and never end."""
    order = np.argsort(at, kind="stable")
    total = np.concatenate(([0.0], np.cumsum(gpus[order])))
    moment = np.concatenate(([0.0], np.cumsum(gpus[order] * at[order])))
    place = np.searchsorted(at[order], edges)
    return total[place] * edges - moment[place]


def _spans(jobs: pl.DataFrame, start: datetime, end: datetime) -> tuple[Floats, Floats]:
    """Return when each job was asked for, cut to the span, in hours from `start`."""
    since = pl.col("submitted_at").clip(start, end)
    until = pl.col("ended_at").fill_null(end).clip(start, end)
    spans = jobs.select(_hours(since, start).alias("since"), _hours(until, start).alias("until"))
    return spans["since"].to_numpy(), spans["until"].to_numpy()


def _hours(time: pl.Expr, start: datetime) -> pl.Expr:
    """Return a time as hours from `start`."""
    return (time - start).dt.total_microseconds() / 3.6e9
