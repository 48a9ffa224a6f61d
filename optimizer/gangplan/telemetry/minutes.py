"""Telemetry in steps of minutes: the GPUs that serving asks for, from jobs; requests per second, from samples."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from gangplan.errors import InputError
from gangplan.tables import UTC_TIME
from gangplan.telemetry.demand import demand_of, hours_between, with_series
from gangplan.types import SERIES, Usage, WorkloadClass

COLUMNS = ("time", *SERIES, "value")
"""The columns of both tables; `time` is the start of a step."""

LONGEST = timedelta(days=21)
"""How far back the tables go."""

LATENCY = WorkloadClass.LATENCY.value


def fine_gpus(usage: Usage, step: timedelta) -> pl.DataFrame:
    """Return the GPUs that jobs of the latency class ask for: the mean of each step of the last three weeks.

    Raises
    ------
    InputError
        When the telemetry has no such jobs.
    """
    jobs = usage.jobs.filter(pl.col("workload_class") == LATENCY, pl.col("submitted_at").is_not_null())
    if not jobs.height:
        remedy = f"has none of the class {LATENCY}: bring in job records, or ask for --of requests"
        raise InputError("jobs", f"{usage.jobs.height} records", remedy)
    start = _first(usage, step)
    times = hours_between(start, usage.end, step)
    series = demand_of(jobs, start, usage.end, step)
    parts = [with_series(pl.DataFrame({"time": times, "value": gpus}), key) for key, gpus in series]
    return pl.concat(parts).select(COLUMNS)


def fine_requests(usage: Usage, step: timedelta) -> pl.DataFrame:
    """Return each tenant's requests per second: the mean of the samples in each step of the last three weeks.

    Raises
    ------
    InputError
        When there are no samples, or they are farther apart than a step.
    """
    start = _first(usage, step)
    samples = usage.requests.filter(pl.col("time") >= start, pl.col("time") < usage.end).sort("tenant", "time")
    if not samples.height:
        raise InputError("requests", "0 samples", "are there none: bring in requests per second (docs/telemetry.md)")
    _refuse_finer_steps(samples, step)
    unit = int(step.total_seconds() * 1e6)
    number = ((pl.col("time") - start).dt.total_microseconds() // unit).alias("step")
    mean = samples.group_by("tenant", number).agg(pl.col("requests_per_second").mean().alias("value"))
    offset = pl.duration(microseconds=pl.col("step") * unit)
    named = mean.with_columns(
        time=(pl.lit(start) + offset).cast(UTC_TIME), workload_class=pl.lit(LATENCY), accelerator=pl.lit("requests")
    )
    return named.select(COLUMNS).sort(*SERIES, "time")


def _first(usage: Usage, step: timedelta) -> datetime:
    """Return the start of the first step; the last step ends where the telemetry ends."""
    return usage.end - min((usage.end - usage.start) // step, LONGEST // step) * step


def _refuse_finer_steps(samples: pl.DataFrame, step: timedelta) -> None:
    """Refuse a step that is shorter than the usual time between two samples of a tenant."""
    apart = samples.select(pl.col("time").diff().over("tenant").median()).item()
    if apart is not None and apart > step:
        minutes = int(-(-apart.total_seconds() // 60))
        remedy = f"is finer than the samples, which lie {minutes} minutes apart: use --step {minutes}"
        raise InputError("step", f"{step // timedelta(minutes=1)} minutes", remedy)
