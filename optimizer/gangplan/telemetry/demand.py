"""Jobs -> demand: the GPUs asked for, running or queued, as the time-weighted mean of each hour or shorter step."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.clock import HOUR
from gangplan.tables import DEMAND, conform, empty
from gangplan.types import SERIES

Floats: TypeAlias = NDArray[np.float64]

LONGEST = timedelta(days=1096)
"""The span that is kept; older hours do not help to forecast the next weeks."""


def hourly_demand(jobs: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand of each series in `jobs` (JOBS) for every hour from `start` up to `end` (DEMAND).

    A job asks for its GPUs from its submission to its end; one without an end asks up to `end`.
    """
    hours = hours_between(start, end)
    return pl.concat([empty(DEMAND), *(series_demand(key, hours, gpus) for key, gpus in demand_of(jobs, start, end))])


def demand_of(
    jobs: pl.DataFrame, start: datetime, end: datetime, step: timedelta = HOUR
) -> list[tuple[tuple[object, ...], Floats]]:
    """Return the series in `jobs` (JOBS), each with the mean of its GPUs in every step from `start` up to `end`."""
    steps = -(-(end - start) // step)
    return [
        (key, mean_by_hour(*_spans(part, start, end, step), part["gpus"].to_numpy(), steps))
        for key, part in sorted(jobs.partition_by(SERIES, as_dict=True).items())
    ]


def hours_between(start: datetime, end: datetime, step: timedelta = HOUR) -> pl.Series:
    """Return the starts of the hours (or steps) from `start` up to, not including, `end`."""
    return pl.datetime_range(start, end, step, closed="left", time_unit="us", eager=True).alias("hour")


def mean_by_hour(starts: Floats, ends: Floats, gpus: Floats, hours: int) -> Floats:
    """Return the mean of GPUs held in each of `hours` hours (or steps) by intervals, given in hours from the first.

    The integral of the step function at time t is (sum of gpus started by t) * t - (sum of gpus * start), less the same
    for the ends: two sorted cumulative sums instead of a loop over jobs and hours.
    """
    edges = np.arange(hours + 1, dtype=np.float64)
    integral = _ramp(starts, gpus, edges) - _ramp(ends, gpus, edges)
    return np.maximum(np.diff(integral), 0.0).round(6)


def series_demand(key: tuple[object, ...], hours: pl.Series, gpus: Floats) -> pl.DataFrame:
    """Return the rows of one series in a table of demand (DEMAND)."""
    return conform("demand", with_series(pl.DataFrame({"hour": hours, "gpus": gpus}), key), DEMAND)


def with_series(frame: pl.DataFrame, key: tuple[object, ...]) -> pl.DataFrame:
    """Return the frame with the columns that name a series: tenant, workload class and accelerator."""
    return frame.with_columns(**{name: pl.lit(value) for name, value in zip(SERIES, key, strict=True)})


def fill_grid(demand: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand with a row for every series and hour from `start` up to `end`; a missing one is null."""
    keys = demand.select(SERIES).unique().sort(SERIES)
    grid = keys.join(pl.DataFrame({"hour": hours_between(start, end)}), how="cross")
    filled = grid.join(demand, on=["hour", *SERIES], how="left").sort([*SERIES, "hour"])
    return conform("demand", filled, DEMAND)


def _ramp(at: Floats, gpus: Floats, edges: Floats) -> Floats:
    """Return the integral, up to each edge, of GPUs that start at `at` and never end."""
    order = np.argsort(at, kind="stable")
    total = np.concatenate(([0.0], np.cumsum(gpus[order])))
    moment = np.concatenate(([0.0], np.cumsum(gpus[order] * at[order])))
    place = np.searchsorted(at[order], edges)
    return total[place] * edges - moment[place]


def _spans(jobs: pl.DataFrame, start: datetime, end: datetime, step: timedelta) -> tuple[Floats, Floats]:
    """Return from when to when each job asked for its GPUs, cut to the span, in steps from `start`."""
    since = pl.col("submitted_at").clip(start, end)
    until = pl.col("ended_at").fill_null(end).clip(start, end)
    unit = step.total_seconds() * 1e6
    spans = jobs.select(
        since=(since - start).dt.total_microseconds() / unit, until=(until - start).dt.total_microseconds() / unit
    )
    return spans["since"].to_numpy(), spans["until"].to_numpy()
