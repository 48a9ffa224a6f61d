"""MLflow runs -> Telemetry: a run with GPU system metrics is a job, the history of its metrics the node's utilisation.

MLflow samples every GPU of the host, so a run's GPUs are those that it kept busy at some time: the last sample, which
a search for runs gives, is often idle.
"""

# MLflow's paged lists carry no type for their token
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path

import httpx
import polars as pl
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from gangplan.errors import InputError, UnavailableError
from gangplan.progress import Progress, no_progress
from gangplan.tables import NODES, UTC_TIME, conform, empty
from gangplan.telemetry.checks import FAULT, LINE, PLACE
from gangplan.telemetry.tabular import from_rows
from gangplan.telemetry.values import REJECTED_KEPT, BadRow, Telemetry
from gangplan.tracking import Store
from gangplan.types import WorkloadClass

BUSY_PERCENT = 1.0
"""A GPU that is never busier than this is another job's."""

SILENT = timedelta(hours=1)
"""A run that still says RUNNING, but gave no sample for so long, was killed: it ended with its last sample."""

ANY = "any"
_KEY = re.compile(r"system/(?:(?P<node>[^/]+)/)?gpu_(?P<gpu>\d+)_(?P<what>utilization|memory_usage)_percentage")
_COLUMN = {"utilization": "gpu_utilization", "memory_usage": "gpu_memory_utilization"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample of one GPU, as a share from 0 to 1."""

    node: str
    gpu: str
    column: str
    time: datetime
    share: float


@dataclass(frozen=True, kw_only=True)
class GpuRun:
    """A run with its experiment's name, its GPU samples, and the samples that were no percentage."""

    run: Run
    experiment: str
    samples: tuple[Sample, ...]
    rejected: tuple[BadRow, ...]

    @property
    def gpus(self) -> int:
        """How many GPUs it kept busy at some time."""
        busy = (s for s in self.samples if s.column == "gpu_utilization" and s.share * 100 > BUSY_PERCENT)
        return len({(s.node, s.gpu) for s in busy})


def read_runs(source: str, now: datetime, progress: Progress = no_progress) -> Telemetry:
    """Return the telemetry of every run with GPU system metrics in a tracking store."""
    uri = source.removeprefix("mlflow+")
    store = _open(uri)
    try:
        runs = list(_gpu_runs(store, progress))
    except MlflowException as error:
        raise UnavailableError(f"mlflow: {shown(uri)} cannot be read: {error}") from error
    used = sorted(
        (each for each in runs if each.gpus), key=lambda each: (each.run.info.start_time, each.run.info.run_id)
    )
    if not used:
        raise InputError(
            "source",
            shown(uri),
            "has no usable row: no run kept a GPU busy; log system metrics (mlflow.enable_system_metrics_logging)",
        )
    telemetry = from_rows([_rows(used, now)], shown(uri), now, live=True)
    rejected = [*telemetry.rejected, *(row for each in runs for row in each.rejected)]
    return replace(
        telemetry,
        nodes=_nodes(used),
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=telemetry.rejected_count + sum(len(each.rejected) for each in runs),
        skipped=len(runs) - len(used),
    )


def shown(uri: str) -> str:
    """Return a URI without the user and password in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def _open(uri: str) -> Store:
    """Return the store, if it is there: a missing SQLite file is not made, a dead server not waited for."""
    file = uri.removeprefix("sqlite:///")
    if file != uri and not Path(file).is_file():
        raise InputError("source", uri, "is not there: give mlflow+sqlite:///<file that exists>")
    if uri.startswith(("http://", "https://")):
        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=10)
        except httpx.HTTPError as error:
            raise UnavailableError(f"mlflow: {shown(uri)} cannot be reached: {error}") from error
    return Store(uri=uri)


def _gpu_runs(store: Store, progress: Progress) -> Iterator[GpuRun]:
    """Give the runs that have GPU metrics, in the order of their start."""
    experiments = {each.experiment_id: each.name for each in store.client.search_experiments()}
    page: str | None = None
    done = 0
    while True:
        runs = store.client.search_runs(
            list(experiments), order_by=["attributes.start_time ASC"], max_results=500, page_token=page
        )
        for run in runs:
            if any(_KEY.fullmatch(key) for key in run.data.metrics):
                yield _with_samples(run, experiments[run.info.experiment_id], store)
            done += 1
            progress(done, done + 1, "reading runs' GPU metrics")
        page = runs.token
        if not page:
            return


def _with_samples(run: Run, experiment: str, store: Store) -> GpuRun:
    """Read the whole history of a run's GPU metrics."""
    samples: list[Sample] = []
    rejected: list[BadRow] = []
    for key in sorted(run.data.metrics):
        match = _KEY.fullmatch(key)
        if match is None:
            continue
        node = match["node"] or run.data.tags.get("gangplan.node") or run.info.run_id[:12]
        for line, point in enumerate(store.client.get_metric_history(run.info.run_id, key), start=1):
            if not (isfinite(point.value) and 0 <= point.value <= 100):
                rejected.append(_bad_sample(run, key, line, point))
                continue
            samples.append(
                Sample(
                    node=node,
                    gpu=match["gpu"],
                    column=_COLUMN[match["what"]],
                    time=_moment(point.timestamp),
                    share=point.value / 100,
                )
            )
    return GpuRun(run=run, experiment=experiment, samples=tuple(samples), rejected=tuple(rejected))


def _bad_sample(run: Run, key: str, line: int, point: Metric) -> BadRow:
    """Name a sample that is no percentage."""
    return BadRow(
        place=f"run {run.info.run_id}",
        line=line,
        field=key,
        value=str(point.value),
        remedy="is no percentage from 0 to 100: the sample is left out",
    )


def _rows(runs: list[GpuRun], now: datetime) -> pl.DataFrame:
    """Return runs as rows of text of the table of jobs; a tag gangplan.<field> wins over what is guessed."""
    rows = [
        {
            "job_id": each.run.info.run_id,
            "tenant": each.run.data.tags.get("gangplan.tenant") or _plain(each.experiment),
            "workload_class": each.run.data.tags.get("gangplan.workload_class") or WorkloadClass.THROUGHPUT.value,
            "accelerator": each.run.data.tags.get("gangplan.accelerator") or ANY,
            "gpus": str(each.gpus),
            "submitted_at": _text(_moment(each.run.info.start_time)),
            "started_at": _text(_moment(each.run.info.start_time)),
            "ended_at": _text(_ended(each, now)),
            LINE: line,
            PLACE: f"run {each.run.info.run_id}",
            FAULT: None,
        }
        for line, each in enumerate(runs, start=1)
    ]
    text = dict.fromkeys(("job_id", "tenant", "workload_class", "accelerator", "gpus"), pl.String())
    times = dict.fromkeys(("submitted_at", "started_at", "ended_at", PLACE, FAULT), pl.String())
    return pl.DataFrame(rows, schema={**text, **times, LINE: pl.Int64()})


def _ended(each: GpuRun, now: datetime) -> datetime | None:
    """Return when a run ended: never, while it runs; with its last sample, when it was killed."""
    if each.run.info.end_time:
        return _moment(each.run.info.end_time)
    last = max(sample.time for sample in each.samples)
    return last if now - last > SILENT else None


def _nodes(runs: list[GpuRun]) -> pl.DataFrame:
    """Return the hourly mean over the GPUs that were sampled on each node (NODES)."""
    rows = [
        (s.time, s.node, each.run.data.tags.get("gangplan.accelerator") or ANY, s.column, s.share)
        for each in runs
        for s in each.samples
    ]
    schema = {
        "time": UTC_TIME,
        "node": pl.String(),
        "accelerator": pl.String(),
        "column": pl.String(),
        "share": pl.Float64(),
    }
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("time").dt.truncate("1h"))
    shares = [pl.col("share").filter(pl.col("column") == column).mean().alias(column) for column in _COLUMN.values()]
    hourly = table.group_by("time", "node").agg(pl.col("accelerator").first(), *shares)
    return conform("nodes", pl.concat([empty(NODES), hourly], how="diagonal"), NODES).sort("time", "node")


def _plain(experiment: str) -> str:
    """Return an experiment's name as a tenant's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", experiment).strip("-._")[:63] or "default"


def _moment(milliseconds: int) -> datetime:
    """Return MLflow's milliseconds as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _text(moment: datetime | None) -> str | None:
    """Return a time as a CSV file would have it."""
    return None if moment is None else moment.isoformat()
