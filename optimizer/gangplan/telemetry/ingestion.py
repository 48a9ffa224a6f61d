"""Telemetry into MLflow: one finished run for each import; all later stages read it from there."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import polars as pl
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from gangplan.clock import Clock, floor_hour
from gangplan.errors import InputError
from gangplan.progress import Progress, no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.read import IMPORT, denied_hours, read_import
from gangplan.telemetry.sources import Cache, load
from gangplan.telemetry.timing import Timing, delivered, known_at
from gangplan.telemetry.values import TABLES, IngestReport, Telemetry, digest_of, notes_tag
from gangplan.tracking import TELEMETRY, Store
from gangplan.types import SERIES

POINTS = 60_000
"""The most metric points of one run. The largest series come first; the table of demand holds all."""


def ingest(
    source: str,
    store: Store,
    *,
    seed: int,
    clock: Clock,
    timing: Timing | None = None,
    reading: Reading | None = None,
    progress: Progress = no_progress,
) -> IngestReport:
    """Bring a source's telemetry into MLflow with its own times, and report which rows were used and rejected.

    If the newest import holds the same telemetry up to the same hour, nothing is written.

    Parameters
    ----------
    source
        "sample", a CSV or Parquet file or a folder of them, "prometheus+http://host:9090", "kubernetes+<context>", or
        "mlflow+<tracking URI>".

    Raises
    ------
    InputError
        When the source cannot be read or has no usable row.
    UnavailableError
        When a server does not answer.
    """
    raw, telemetry = understood(
        source, seed=seed, clock=clock, timing=timing, reading=reading, cache=cache_of(store), progress=progress
    )
    sha256 = digest_of([raw.sha256(), telemetry.start.isoformat(), telemetry.end.isoformat()])
    newest = store.runs(TELEMETRY, IMPORT)  # only the newest run can be reused, since `read_usage` reads that one
    same = newest[0].info.run_id if newest and newest[0].data.tags.get("sha256") == sha256 else None
    run_id = same or _write(telemetry, sha256, store, seed, progress)
    usage = read_import(store, run_id)
    return IngestReport(
        run_id=run_id,
        source=raw.source,
        rows=raw.rows,
        rejected=raw.rejected,
        rejected_count=raw.rejected_count,
        usage=usage,
        skipped=raw.skipped,
        age=clock() - telemetry.end,
        reused=same is not None,
        quarantined=denied_hours(usage, store),
    )


def cache_of(store: Store, *, keeps: bool = True) -> Cache:
    """Return the cache beside a store; there is none beside a server."""
    return Cache(folder=None if store.folder is None else store.folder / "cache", keeps=keeps)


def understood(
    source: str,
    *,
    seed: int,
    clock: Clock,
    timing: Timing | None,
    reading: Reading | None,
    progress: Progress,
    cache: Cache,
) -> tuple[Telemetry, Telemetry]:
    """Return a source's telemetry as it was read, and as an import keeps it.

    The parameters are those of `ingest`. Raises InputError where a trace that is walked through begins after now.
    """
    progress(0, 1, "reading the telemetry")
    now, timing = clock(), timing or Timing()
    raw = load(source, seed=seed, clock=clock, progress=progress, cache=cache, timing=timing, reading=reading)
    placed = timing.placed(raw, now)
    seen = known_at(placed, now) if timing.walks else placed
    if timing.walks and seen.end <= seen.start:
        remedy = f"leaves no whole hour of {raw.source}, which begins at {seen.start.isoformat()}: give a later time"
        raise InputError("now", now.isoformat(), remedy)
    return raw, _noted(delivered(seen, now), timing, now)


def _noted(telemetry: Telemetry, timing: Timing, now: datetime) -> Telemetry:
    """Add what was assumed about the jobs of a file that ends earlier and does not say when it was exported."""
    ends = telemetry.jobs["ended_at"]
    if telemetry.live or timing.until or telemetry.end >= floor_hour(now) or not ends.has_nulls():
        return telemetry
    note = (
        f"jobs without an end: {ends.null_count()}; they count up to {telemetry.end:%Y-%m-%d %H:%M}, the end of the "
        "hour of the source's last time; if it was exported later, say when: --until now, or --until T"
    )
    return replace(telemetry, notes=(*telemetry.notes, note))


def _write(telemetry: Telemetry, sha256: str, store: Store, seed: int, progress: Progress) -> str:
    """Log the telemetry as one run and return its id; a run that failed is never read."""
    tags = {
        **IMPORT,
        "source": telemetry.source,
        "sha256": sha256,
        "start": telemetry.start.isoformat(),
        "end": telemetry.end.isoformat(),
        "live": str(telemetry.live).lower(),
        "notes": notes_tag(telemetry.notes),
    }
    with store.run(TELEMETRY, f"import {telemetry.source}"[:250], tags) as run_id:
        for step, name in enumerate(TABLES):
            progress(step, len(TABLES), f"keeping the table {name}")
            store.log_table(run_id, name, getattr(telemetry, name))
        store.client.log_inputs(run_id, datasets=[_dataset(telemetry, sha256)])
        store.client.log_batch(run_id, params=_params(telemetry, seed))
        if telemetry.rejected:
            store.client.log_text(run_id, "\n".join(map(str, telemetry.rejected)), "rejected.txt")
        store.log_metrics(run_id, _points(telemetry), progress, "logging the demand's history")
    return run_id


def _points(telemetry: Telemetry) -> list[Metric]:
    """Return the known hourly demand as metric points (step: the hour's index), the largest series first."""
    hour = (pl.col("hour") - telemetry.start).dt.total_hours().alias("step")
    table = telemetry.demand.sort(-pl.col("gpus").sum().over(SERIES), *SERIES, "hour").select(
        pl.concat_str(pl.lit("demand"), *SERIES, separator="/"), "gpus", pl.col("hour").dt.epoch("ms"), hour
    )
    return [Metric(*row) for row in table.drop_nulls("gpus").head(POINTS).iter_rows()]


def _params(telemetry: Telemetry, seed: int) -> list[Param]:
    """Return the import's source, counts and span as MLflow parameters."""
    values = {
        "source": telemetry.source,
        "seed": seed,
        "rows": telemetry.rows,
        "rejected_rows": telemetry.rejected_count,
        "skipped_rows": telemetry.skipped,
        "start": telemetry.start.isoformat(),
        "end": telemetry.end.isoformat(),
        "series": telemetry.demand.select(SERIES).n_unique(),
    }
    return [Param(name, str(value)) for name, value in values.items()]


def _dataset(telemetry: Telemetry, sha256: str) -> DatasetInput:
    """Return the demand as an MLflow data set; its sha256 is a tag, since MLflow's own field is too short for it."""
    columns = [{"name": name, "type": str(kind)} for name, kind in telemetry.demand.schema.items()]
    dataset = Dataset(
        name=telemetry.source[-250:],
        digest=sha256[:32],
        source_type="gangplan",
        source=json.dumps({"source": telemetry.source}),
        schema=json.dumps({"columns": columns}),
        profile=json.dumps({"num_rows": telemetry.demand.height}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "telemetry"), InputTag("sha256", sha256)])
