"""A cluster's own memory -> the tables of telemetry: Kueue's Workloads, and the pods that none of them counts.

A cluster forgets what ended: with its Job, or when Kueue's retention deletes it. So what was seen is kept beside the
store, and each look adds to it; a gang that was running and is not there any more has ended by the next look.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gangplan.errors import InputError
from gangplan.kube import Gang, connect, read_gangs
from gangplan.progress import Progress, no_progress
from gangplan.tables import JOBS, QUEUE, conform
from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.sources.prometheus_tables import ANY
from gangplan.telemetry.values import Telemetry
from gangplan.types import WorkloadClass

PREFIX = "kubernetes+"
_HOUR = timedelta(hours=1)
_KEPT = timedelta(days=400)
"""What ended longer ago is forgotten here, too."""


def read_cluster(
    source: str, now: datetime, progress: Progress = no_progress, seen_before: Path | None = None
) -> Telemetry:
    """Return the telemetry of a kubeconfig's context (`kubernetes+<context>`; `-`: the current one) up to this hour.

    Raises InputError where nothing has ever asked for accelerators, UnavailableError when the cluster is not there.
    """
    context = source.removeprefix(PREFIX)
    progress(0, 1, "reading the cluster's gangs")
    present = jobs_of(read_gangs(connect("" if context == "-" else context)))
    known = pl.read_parquet(seen_before) if seen_before is not None and seen_before.exists() else present.clear()
    jobs = remembered(known, present, now)
    if jobs.is_empty():
        raise InputError("source", source, "has nothing that asks for GPUs: is it the right context?")
    if seen_before is not None:
        seen_before.parent.mkdir(parents=True, exist_ok=True)
        jobs.write_parquet(seen_before)
    return telemetry_of(source, jobs, now)


def jobs_of(gangs: Iterable[Gang]) -> pl.DataFrame:
    """Return gangs as jobs (JOBS)."""
    known = {each.value for each in WorkloadClass}
    rows = [
        (
            gang.id,
            gang.tenant,
            gang.kind if gang.kind in known else WorkloadClass.THROUGHPUT.value,
            gang.accelerator or ANY,
            float(gang.count),
            gang.created,
            gang.started,
            gang.ended,
        )
        for gang in gangs
    ]
    return pl.DataFrame(rows, schema=JOBS, orient="row")


def remembered(known: pl.DataFrame, present: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return what was seen before with what is there now: one row each, the new one before the old (JOBS)."""
    gone = known.join(present, on="job_id", how="anti").with_columns(pl.col("ended_at").fill_null(now))
    late = gone.filter(pl.col("ended_at") > now - _KEPT)
    return conform("jobs", pl.concat([late, present]), JOBS).sort("submitted_at", "job_id")


def telemetry_of(source: str, jobs: pl.DataFrame, now: datetime) -> Telemetry:
    """Return jobs as telemetry from the hour of the first one; what waits now is the queue."""
    first = jobs["submitted_at"].min()
    assert isinstance(first, datetime)  # noqa: S101 - there are rows
    start, end = _floor(first), _floor(now) + _HOUR
    waiting = jobs.filter(pl.col("started_at").is_null(), pl.col("ended_at").is_null())
    queue = waiting.group_by("tenant", "accelerator").agg(jobs=pl.len().cast(pl.Int64), gpus=pl.sum("gpus"))
    return Telemetry(
        source=source,
        start=start,
        end=end,
        rows=jobs.height,
        demand=hourly_demand(jobs, start, end),
        jobs=jobs,
        queue=conform("queue", queue.with_columns(time=pl.lit(_floor(now))), QUEUE).sort("tenant", "accelerator"),
        live=True,
    )


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
