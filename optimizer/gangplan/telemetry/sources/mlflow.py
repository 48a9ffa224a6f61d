"""MLflow runs -> Telemetry: a run with GPU system metrics is a job, the history of its metrics the node's utilisation.

MLflow samples every GPU of the host, so a run's GPUs are those that were busy at some time. The last sample, which a
search for runs returns, is often of an idle GPU, so the whole history is read.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from mlflow.exceptions import MlflowException

from gangplan.errors import InputError
from gangplan.progress import Progress, no_progress
from gangplan.tables import NODES, conform, empty
from gangplan.telemetry.rows import FAULT, LINE, PLACE
from gangplan.telemetry.sources import mlflow_history
from gangplan.telemetry.sources.folder import from_rows
from gangplan.telemetry.sources.mlflow_history import History
from gangplan.telemetry.values import REJECTED_KEPT, BadRow, Telemetry
from gangplan.tracking import Store, naming_faults, require_answer
from gangplan.types import ANY, WorkloadClass
from gangplan.urls import is_http, shown

BUSY_PERCENT = 1.0
"""A GPU whose utilisation never exceeds this does not count as the run's."""

SILENT = timedelta(hours=1)
"""A RUNNING run without a sample for so long was killed: it ended with its last sample."""

_KEY = r"^system/(?:([^/]+)/)?gpu_(\d+)_(utilization|memory_usage)_percentage$"
_COLUMN = {"utilization": "gpu_utilization", "memory_usage": "gpu_memory_utilization"}
_PARENT = "mlflow.parentRunId"
_DEEPEST = 8
"""Runs are nested at most so many levels deep."""


def read_runs(
    source: str,
    now: datetime,
    progress: Progress = no_progress,
    cache: Path | None = None,
    latest: datetime | None = None,
    as_of: datetime | None = None,
) -> Telemetry:
    """Return the telemetry of every run with GPU system metrics in a tracking store, up to the present hour.

    `cache` is the file that keeps histories from one import to the next; with None, nothing is kept. No run may begin
    or end after `latest`, by default after now; `as_of` as for `from_rows`.
    """
    uri = source.removeprefix("mlflow+")
    if is_http(uri):
        require_answer(uri, "source")
    try:
        with naming_faults(uri, "source"):
            history = mlflow_history.read(Store(uri=uri), cache, progress)
    except (MlflowException, KeyError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        remedy = f"does not answer as MLflow does ({type(error).__name__}): check host, port and path, and its version"
        raise InputError("source", shown(uri), remedy) from None  # its text may show the password
    runs = history.runs
    roots = _roots(runs)
    samples, rejected = _samples(history.points, runs, roots)
    used = _used(runs, roots, samples)
    if not used.height:
        remedy = "has no usable row: no run kept a GPU busy; log system metrics (mlflow.enable_system_metrics_logging)"
        raise InputError("source", uri, remedy)
    telemetry = from_rows([_rows(used, now)], shown(uri), now, latest=latest, as_of=as_of, live=True)
    bad = _bad_samples(rejected.head(REJECTED_KEPT))
    return replace(
        telemetry,
        nodes=_nodes(samples.join(used, on="root", how="semi")),
        rejected=(*telemetry.rejected, *bad)[:REJECTED_KEPT],
        rejected_count=telemetry.rejected_count + rejected.height,
        skipped=runs.height - used.height,
        notes=(*telemetry.notes, *_notes(history, roots, used, now)),
    )


def _notes(history: History, roots: pl.DataFrame, used: pl.DataFrame, now: datetime) -> list[str]:
    """Say which runs are no jobs, and which ends are assumed."""
    nested = roots.filter(pl.col("root") != pl.col("run_id")).height
    silent = used.filter(pl.col("end").is_null() & _is_silent(now)).height
    counts = (
        (history.without_gpus, "has no GPU metrics: it is no job", "have no GPU metrics: they are no jobs"),
        (
            history.deleted,
            "with GPU metrics is deleted: it is left out",
            "with GPU metrics are deleted: they are left out",
        ),
        (
            roots["root"].n_unique() - used.height,
            "never kept a GPU busy: it is left out",
            "never kept a GPU busy: they are left out",
        ),
        (
            nested,
            "is nested in one that samples the same GPUs: it counts as part of it",
            "are nested in one that samples the same GPUs: they count as part of it",
        ),
        (
            silent,
            "is still RUNNING but silent for an hour: its last sample is taken for its end",
            "are still RUNNING but silent for an hour: the last sample of each is taken for its end",
        ),
    )
    return [f"1 run {one}" if count == 1 else f"{count} runs {several}" for count, one, several in counts if count]


def _is_silent(now: datetime) -> pl.Expr:
    """Tell which runs were silent for so long that they must have been killed."""
    return pl.lit(now) - pl.col("last") > SILENT


def _roots(runs: pl.DataFrame) -> pl.DataFrame:
    """Return for each run the run (`root`) whose job it belongs to.

    A run that is nested in one with GPU metrics belongs to that one, since both sample the same GPUs. If the parent has
    no GPU metrics, as in a sweep, each of its runs is a job of its own.
    """
    parents = {child: parent for child, parent in runs.select("run_id", _PARENT).iter_rows() if parent}
    known = set(runs["run_id"])
    roots: list[str] = []
    for run_id in runs["run_id"]:
        root = run_id
        for _ in range(_DEEPEST):
            if parents.get(root) not in known:
                break
            root = parents[root]
        roots.append(root)
    return pl.DataFrame({"run_id": runs["run_id"], "root": roots}, schema={"run_id": pl.String, "root": pl.String})


def _samples(points: pl.DataFrame, runs: pl.DataFrame, roots: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the samples (root, node, gpu, column, time, share from 0 to 1), and the points that are no percentages."""
    parts = pl.col("key").str.extract_groups(_KEY)
    numbered = points.with_columns(line=pl.int_range(1, pl.len() + 1).over("run_id", "key"))
    good = pl.col("value").is_finite() & pl.col("value").is_between(0, 100)
    home = roots.join(runs.select(pl.col("run_id").alias("root"), "gangplan.node", "gangplan.accelerator"), on="root")
    named = numbered.filter(good).join(home, on="run_id").with_columns(parts=parts)
    field = pl.col("parts").struct.field
    node = pl.coalesce(field("1"), "gangplan.node", pl.col("root").str.slice(0, 12))
    made = named.select(
        "root",
        node.alias("node"),
        field("2").alias("gpu"),
        field("3").replace_strict(_COLUMN).alias("column"),
        _from_milliseconds("time").alias("time"),
        (pl.col("value") / 100).alias("share"),
        pl.col("gangplan.accelerator").fill_null(ANY).alias("accelerator"),
    )
    return made, numbered.filter(~good)


def _used(runs: pl.DataFrame, roots: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Return the runs that are jobs: `root` and the columns of `mlflow_history.RUNS`, number of GPUs, last sample."""
    busy = (pl.col("column") == "gpu_utilization") & (pl.col("share") * 100 > BUSY_PERCENT)
    gpus = samples.filter(busy).group_by("root").agg(pl.struct("node", "gpu").n_unique().alias("gpus"))
    last = samples.group_by("root").agg(pl.col("time").max().alias("last"))
    jobs = runs.rename({"run_id": "root"}).join(gpus, on="root").join(last, on="root")
    return jobs.sort("start", "root")


def _bad_samples(rejected: pl.DataFrame) -> list[BadRow]:
    """Name the samples that are not percentages."""
    return [
        BadRow(
            place=f"run {run_id}",
            line=line,
            field=key,
            value=str(value),
            remedy="is no percentage from 0 to 100: the sample is left out",
        )
        for run_id, key, value, line in rejected.select("run_id", "key", "value", "line").iter_rows()
    ]


def _rows(used: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return runs as rows of text of the table of jobs; a tag gangplan.<field> replaces the default."""
    start, end = _from_milliseconds("start"), _from_milliseconds("end")
    ended = pl.coalesce(end, pl.when(_is_silent(now)).then(pl.col("last")))
    plain = pl.col("experiment").str.replace_all(r"[^A-Za-z0-9._-]+", "-").str.strip_chars("-._").str.slice(0, 63)
    tenant = pl.when(plain == "").then(pl.lit("default")).otherwise(plain)
    return used.with_row_index("line", 1).select(
        job_id="root",
        tenant=_given("gangplan.tenant", tenant),
        workload_class=_given("gangplan.workload_class", pl.lit(WorkloadClass.THROUGHPUT.value)),
        accelerator=_given("gangplan.accelerator", pl.lit(ANY)),
        gpus=pl.col("gpus").cast(pl.String),
        submitted_at=_text(start),
        started_at=_text(start),
        ended_at=_text(ended),
        **{
            LINE: pl.col("line").cast(pl.Int64),
            PLACE: pl.format("run {}", "root"),
            FAULT: pl.lit(None, dtype=pl.String),
        },
    )


def _nodes(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the hourly mean over the sampled GPUs of each node (NODES)."""
    shares = [pl.col("share").filter(pl.col("column") == column).mean().alias(column) for column in _COLUMN.values()]
    hourly = samples.with_columns(pl.col("time").dt.truncate("1h")).group_by("time", "node")
    table = hourly.agg(pl.col("accelerator").first(), *shares)
    return conform("nodes", pl.concat([empty(NODES), table], how="diagonal"), NODES).sort("time", "node")


def _given(tag: str, otherwise: pl.Expr) -> pl.Expr:
    """Return the tag where it is not empty, else the other value."""
    return pl.when(pl.col(tag).is_null() | (pl.col(tag) == "")).then(otherwise).otherwise(pl.col(tag))


def _from_milliseconds(column: str) -> pl.Expr:
    """Return a column of milliseconds since 1970 as times."""
    return pl.from_epoch(column, "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")


def _text(moment: pl.Expr) -> pl.Expr:
    """Return a time as text, as in a CSV file."""
    return moment.dt.strftime("%Y-%m-%dT%H:%M:%S%.f+00:00")
