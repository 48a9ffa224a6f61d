"""Telemetry at steps of minutes: GPUs that serving asks for, by its job records; requests per second, by samples."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.tables import UTC_TIME
from gangplan.telemetry.demand import mean_by_hour
from gangplan.types import SERIES, Usage, WorkloadClass

FINE = {"time": UTC_TIME, "tenant": pl.String(), "workload_class": pl.String(), "accelerator": pl.String()}
"""The columns of a fine table beside `value`; time is a step's start."""

DAYS = 21
LATENCY = WorkloadClass.LATENCY.value


def fine_gpus(usage: Usage, step: timedelta) -> pl.DataFrame:
    """Return the GPUs that jobs of the latency class ask for, mean of each step, of the last three weeks.

    Raises
    ------
    InputError
        When there are no such job records.
    """
    jobs = usage.jobs.filter(pl.col("workload_class") == LATENCY, pl.col("submitted_at").is_not_null())
    if not jobs.height:
        remedy = f"has none of the class {LATENCY}: bring in job records, or ask for --of requests"
        raise InputError("jobs", f"{usage.jobs.height} records", remedy)
    start = _first(usage.start, usage.end, step)
    times = pl.datetime_range(start, usage.end, step, closed="left", time_unit="us", eager=True)
    parts = [
        _series(key, times, mean_by_hour(*_spans(part, start, usage.end, step), part["gpus"].to_numpy(), len(times)))
        for key, part in sorted(jobs.partition_by(SERIES, as_dict=True).items())
    ]
    return pl.concat(parts)


def fine_requests(usage: Usage, step: timedelta) -> pl.DataFrame:
    """Return each tenant's requests per second, mean of each step's samples, of the last three weeks.

    Raises
    ------
    InputError
        When there are no samples, or they lie farther apart than a step.
    """
    start = _first(usage.start, usage.end, step)
    samples = usage.requests.filter(pl.col("time") >= start, pl.col("time") < usage.end).sort("tenant", "time")
    if not samples.height:
        raise InputError("requests", "0 samples", "are there none: bring in requests per second (docs/telemetry.md)")
    apart = samples.select(pl.col("time").diff().over("tenant").median()).item()
    if apart is not None and apart > step:
        minutes = int(-(-apart.total_seconds() // 60))
        raise InputError(
            "step",
            f"{step // timedelta(minutes=1)} minutes",
            f"is finer than the samples, which lie {minutes} minutes apart: use --step {minutes}",
        )
    unit = int(step.total_seconds() * 1e6)
    place = ((pl.col("time") - start).dt.total_microseconds() // unit).alias("place")
    value = pl.col("requests_per_second").mean().alias("value")
    mean = samples.with_columns(place).group_by("tenant", "place").agg(value)
    offset = pl.duration(microseconds=pl.col("place") * unit)
    named = mean.with_columns(
        (pl.lit(start) + offset).cast(UTC_TIME).alias("time"),
        workload_class=pl.lit(LATENCY),
        accelerator=pl.lit("requests"),
    )
    return named.select(*FINE, "value").sort(*SERIES, "time")


def _first(start: datetime, end: datetime, step: timedelta) -> datetime:
    """The start of the first step, so that the last one ends at the telemetry's end."""
    return end - min((end - start) // step, timedelta(days=DAYS) // step) * step


def _spans(jobs: pl.DataFrame, start: datetime, end: datetime, step: timedelta) -> tuple[np.ndarray, np.ndarray]:
    """Return when each job was asked for, in steps from the start."""
    unit = step.total_seconds() * 1e6
    since, until = pl.col("submitted_at").clip(start, end), pl.col("ended_at").fill_null(end).clip(start, end)
    spans = jobs.select(
        ((one - start).dt.total_microseconds() / unit).alias(name) for one, name in ((since, "a"), (until, "b"))
    )
    return spans["a"].to_numpy(), spans["b"].to_numpy()


def _series(key: tuple[object, ...], times: pl.Series, values: np.ndarray) -> pl.DataFrame:
    """Return one series' rows."""
    named = {name: pl.lit(value) for name, value in zip(SERIES, key, strict=True)}
    return pl.DataFrame({"time": times, "value": values}).with_columns(**named).select(*FINE, "value")
