"""A cluster's objects -> the tables of telemetry: Kueue's Workloads, and the pods that belong to none of them.

A cluster deletes what ended, with its Job or after Kueue's retention. So each read adds to a file in the cache; a gang
that was running and does not exist any more counts as ended at the next read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError
from gangplan.kube import Gang, Malformed, connect, read_gangs
from gangplan.progress import Progress, no_progress
from gangplan.tables import JOBS, QUEUE, conform
from gangplan.telemetry.demand import LONGEST, hourly_demand
from gangplan.telemetry.values import REJECTED_KEPT, BadRow, Telemetry
from gangplan.types import ANY, WorkloadClass

PREFIX = "kubernetes+"
_KEPT = timedelta(days=400)
"""How long the cache keeps gangs that have ended."""


def read_cluster(
    source: str,
    now: datetime,
    progress: Progress = no_progress,
    seen_before: Path | None = None,
    *,
    keeps: bool = True,
) -> Telemetry:
    """Return the telemetry of a kubeconfig's context (`kubernetes+<context>`; `-`: the current one) up to this hour.

    `seen_before` is the file of the cache; with None, nothing is kept. Without `keeps` it is only read.

    Raises
    ------
    InputError
        When nothing has ever asked for accelerators.
    UnavailableError
        When the cluster does not answer.
    """
    context = source.removeprefix(PREFIX)
    progress(0, 1, "reading the cluster's gangs")
    seen = read_gangs(connect("" if context == "-" else context))
    present = jobs_of(seen.gangs)
    known = pl.read_parquet(seen_before) if seen_before is not None and seen_before.exists() else present.clear()
    jobs = remembered(known, present, now)
    if jobs.is_empty():
        why = "; ".join(seen.notes)
        raise InputError(
            "source", source, f"has nothing that asks for GPUs{why and f' ({why})'}: is the context right?"
        )
    if seen_before is not None and keeps:
        seen_before.parent.mkdir(parents=True, exist_ok=True)
        jobs.write_parquet(seen_before)
    rejected = tuple(map(_bad_row, seen.malformed[:REJECTED_KEPT]))
    made = telemetry_of(source, jobs, now)
    return replace(made, notes=seen.notes, rejected=rejected, rejected_count=len(seen.malformed))


def _bad_row(item: Malformed) -> BadRow:
    """Return an object that cannot be read as a rejected row."""
    return BadRow(
        place=item.path, line=item.line, field=item.name, value=item.error, remedy="is no such object: it is left out"
    )


def jobs_of(gangs: Iterable[Gang]) -> pl.DataFrame:
    """Return gangs as jobs (JOBS)."""
    classes = {kind.value for kind in WorkloadClass}
    rows = [
        (
            gang.id,
            gang.tenant,
            gang.kind if gang.kind in classes else WorkloadClass.THROUGHPUT.value,
            gang.accelerator or ANY,
            gang.count,
            gang.created,
            gang.started,
            gang.ended,
        )
        for gang in gangs
    ]
    return pl.DataFrame(rows, schema=JOBS, orient="row")


def remembered(known: pl.DataFrame, present: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the known and the present jobs (JOBS), one row each; a present row replaces a known one."""
    gone = known.join(present, on="job_id", how="anti").with_columns(pl.col("ended_at").fill_null(now))
    recent = gone.filter(pl.col("ended_at") > now - _KEPT)
    return conform("jobs", pl.concat([recent, present]), JOBS).sort("submitted_at", "job_id")


def telemetry_of(source: str, jobs: pl.DataFrame, now: datetime) -> Telemetry:
    """Return jobs as telemetry, from the hour of the first one; the jobs that wait now are the queue."""
    first = jobs["submitted_at"].min()
    assert isinstance(first, datetime)  # noqa: S101 - there are rows
    start, end = floor_hour(first), floor_hour(now) + HOUR
    waiting = jobs.filter(pl.col("started_at").is_null(), pl.col("ended_at").is_null())
    queue = waiting.group_by("tenant", "accelerator").agg(jobs=pl.len().cast(pl.Int64), gpus=pl.sum("gpus"))
    return Telemetry(
        source=source,
        start=start,
        end=end,
        rows=jobs.height,
        demand=hourly_demand(jobs, max(start, end - LONGEST), end),
        jobs=jobs,
        queue=conform("queue", queue.with_columns(time=pl.lit(floor_hour(now))), QUEUE).sort("tenant", "accelerator"),
        live=True,
    )
