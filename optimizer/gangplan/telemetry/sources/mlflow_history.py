"""All runs of an MLflow tracking store that have GPU metrics, with the whole history of these metrics, as two tables.

A database is read in bulk, from MLflow's own tables, because 10,000 runs take minutes one by one. A server is asked for
a metric of a hundred runs at once, as its own web page does. A cache file keeps histories: a run that has ended is read
again only if its newest points have changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from mlflow.entities import ViewType
from mlflow.store.tracking.dbmodels import models
from mlflow.utils import credentials, rest_utils

from gangplan.progress import Progress
from gangplan.tracking import Store, database_to_read
from gangplan.urls import is_http

TAGS = ("gangplan.tenant", "gangplan.workload_class", "gangplan.accelerator", "gangplan.node", "mlflow.parentRunId")
RUNS = {
    "run_id": pl.String(),
    "experiment": pl.String(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    **dict.fromkeys(TAGS, pl.String()),
    "content": pl.String(),
}
"""start, end: milliseconds since 1970; end is null while a run is running. content: a digest of its newest points."""

POINTS = {"run_id": pl.String(), "key": pl.String(), "time": pl.Int64(), "value": pl.Float64()}

_NEWEST = {"run_id": pl.String(), "key": pl.String(), "time": pl.Int64(), "step": pl.Int64(), "value": pl.Float64()}
_PATTERN = r"^system/(?:[^/]+/)?gpu_\d+_(?:utilization|memory_usage)_percentage$"
_LIKE = "system/%gpu%percentage"
_AT_ONCE = 500
_PAGE = 1000
_THREADS = 8
_HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_AT_ONCE_SERVER = 100  # runs in one request: the most that MLflow's server takes
_MOST_POINTS = 25_000  # the server cuts an answer off after so many points
_tables: Any = models  # MLflow's tables and its HTTP client have no types
_credentials: Any = credentials
_http: Any = rest_utils

Point = tuple[str, str, int, float]
"""Run id, key, time in milliseconds, value."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The runs with GPU metrics (`RUNS`, by their start) and the points of these metrics (`POINTS`, by time).

    `without_gpus` counts the runs that have no GPU metrics, `deleted` the deleted ones that have some.
    """

    runs: pl.DataFrame
    points: pl.DataFrame
    without_gpus: int
    deleted: int


def read(store: Store, cache: Path | None, progress: Progress) -> History:
    """Read what a tracking store has of GPU metrics."""
    progress(0, 4, "listing runs with GPU metrics")
    listed, newest, deleted = _listed(store)
    runs = listed.join(_contents(newest), on="run_id", how="inner").sort("start", "run_id").select(list(RUNS))
    kept = _cached(cache, runs)
    missing = runs.join(kept, on="run_id", how="anti")
    progress(1, 4, f"reading the history of {missing.height} runs")
    keys = newest.join(missing, on="run_id", how="semi").select("run_id", "key")
    points = pl.concat([kept.select(list(POINTS)), _points(store, keys)])
    progress(3, 4, "keeping what was read")
    if cache is not None and missing.height:
        _keep(cache, runs, points)
    return History(runs=runs, points=points, without_gpus=listed.height - runs.height, deleted=deleted)


def _contents(newest: pl.DataFrame) -> pl.DataFrame:
    """Return a digest of the newest points of each run."""
    line = pl.concat_str(["key", "time", "step", pl.col("value").cast(pl.String)], separator="|", ignore_nulls=True)
    joined = newest.sort("run_id", "key").group_by("run_id", maintain_order=True).agg(text=line.str.join("\n"))
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in joined["text"]]
    return joined.select("run_id", pl.Series("content", digests, dtype=pl.String))


def _cached(cache: Path | None, runs: pl.DataFrame) -> pl.DataFrame:
    """Return the cached points of the ended runs that have not changed since."""
    schema = {**POINTS, "content": pl.String()}
    if cache is None or not cache.exists():
        return pl.DataFrame(schema=schema)
    try:
        kept = pl.read_parquet(cache)
    except pl.exceptions.PolarsError:  # the file is no cache of ours, or incomplete
        return pl.DataFrame(schema=schema)
    if kept.schema != pl.Schema(schema):
        return pl.DataFrame(schema=schema)
    ended = runs.filter(pl.col("end").is_not_null())
    return kept.join(ended.select("run_id", "content"), on=["run_id", "content"], how="semi")


def _keep(cache: Path, runs: pl.DataFrame, points: pl.DataFrame) -> None:
    """Write the cache in one step, so that it is never incomplete."""
    ended = runs.filter(pl.col("end").is_not_null()).select("run_id", "content")
    cache.parent.mkdir(parents=True, exist_ok=True)
    staging = cache.with_name(f".{cache.name}.new")
    points.join(ended, on="run_id", how="inner").write_parquet(staging, compression="lz4")
    staging.replace(cache)


def _listed(store: Store) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the runs without `content`, the newest points of their GPU metrics, the number of deleted such runs."""
    if is_http(store.uri):
        return _listed_by_server(store)
    with _database(store) as ask:
        return _listed_by_database(ask)


def _points(store: Store, keys: pl.DataFrame) -> pl.DataFrame:
    """Return the history of these metrics."""
    if is_http(store.uri):
        return _points_of_server(store, keys)
    with _database(store) as ask:
        return _points_of_database(ask, keys["run_id"].unique().sort().to_list())


Ask = Callable[[sa.Executable, dict[str, Any]], pl.DataFrame]
"""Runs a query and returns its rows as a table of the given schema."""


@contextmanager
def _database(store: Store) -> Generator[Ask]:
    """Open the store's database for reading alone and yield a function that queries it."""
    with database_to_read(store.uri) as connection:

        def ask(query: sa.Executable, schema: dict[str, Any]) -> pl.DataFrame:
            rows = connection.execute(query).fetchall()
            columns = list(zip(*rows, strict=True)) or [()] * len(schema)
            return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema, strict=False)

        yield ask


def _listed_by_database(ask: Ask) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """List a database's active runs."""
    run, experiment, latest, tag = _tables.SqlRun, _tables.SqlExperiment, _tables.SqlLatestMetric, _tables.SqlTag
    columns = {name: kind for name, kind in RUNS.items() if name not in TAGS and name != "content"}
    active = (run.lifecycle_stage == "active") & (experiment.lifecycle_stage == "active")
    every = ask(
        sa.select(run.run_uuid, experiment.name, run.start_time, run.end_time, active).join(
            experiment, experiment.experiment_id == run.experiment_id
        ),
        {**columns, "active": pl.Boolean()},
    )
    newest = ask(
        sa.select(latest.run_uuid, latest.key, latest.timestamp, latest.step, latest.value).where(
            latest.key.like(_LIKE)
        ),
        _NEWEST,
    )
    tags = ask(
        sa.select(tag.run_uuid, tag.key, tag.value).where(tag.key.in_(TAGS)),
        dict.fromkeys(("run_id", "key", "value"), pl.String()),
    )
    wide = tags.group_by("run_id").agg(pl.col("value").filter(pl.col("key") == tag).first().alias(tag) for tag in TAGS)
    newest = newest.filter(pl.col("key").str.contains(_PATTERN))
    deleted = every.filter(~pl.col("active")).join(newest, on="run_id", how="semi").height
    return every.filter("active").select(list(columns)).join(wide, on="run_id", how="left"), newest, deleted


def _points_of_database(ask: Ask, run_ids: Sequence[str]) -> pl.DataFrame:
    """Read histories from a database: all at once if there are thousands of runs, else a few hundred runs at a time."""
    metric = _tables.SqlMetric
    history = sa.select(metric.run_uuid, metric.key, metric.timestamp, metric.value, metric.is_nan)
    gpu = history.where(metric.key.like(_LIKE)).order_by(metric.timestamp, metric.step)
    schema = {**POINTS, "nan": pl.Boolean()}
    if len(run_ids) > 10 * _AT_ONCE:
        parts = [ask(gpu, schema).filter(pl.col("run_id").is_in(run_ids))]
    else:
        starts = range(0, len(run_ids), _AT_ONCE)
        parts = [ask(gpu.where(metric.run_uuid.in_(run_ids[at : at + _AT_ONCE])), schema) for at in starts]
    points = pl.concat([pl.DataFrame(schema=schema), *parts]).filter(pl.col("key").str.contains(_PATTERN))
    number = pl.when("nan").then(float("nan")).otherwise(pl.col("value")).alias("value")
    return points.with_columns(number).select(list(POINTS))


def _listed_by_server(store: Store) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """List a server's active runs, page by page."""
    names = store.experiment_names()
    runs: list[tuple[Any, ...]] = []
    newest: list[tuple[Any, ...]] = []
    page: Any = None
    while True:
        listed: Any = store.client.search_runs(list(names), max_results=_PAGE, page_token=page)
        for run in listed:
            tags = [run.data.tags.get(tag) for tag in TAGS]
            info = run.info
            runs.append(
                (
                    info.run_id,
                    names.get(info.experiment_id, info.experiment_id),
                    info.start_time,
                    info.end_time or None,
                    *tags,
                )
            )
            newest += [(info.run_id, m.key, m.timestamp, m.step, m.value) for m in run.data._metric_objs]
        page = listed.token
        if not page:
            break
    columns = {name: kind for name, kind in RUNS.items() if name != "content"}
    latest = pl.DataFrame(newest, schema=_NEWEST, orient="row").filter(pl.col("key").str.contains(_PATTERN))
    return pl.DataFrame(runs, schema=columns, orient="row"), latest, _deleted_on_server(store, list(names))


def _deleted_on_server(store: Store, experiments: list[str]) -> int:
    """Count a server's deleted runs with GPU metrics, among the newest thousand that were deleted."""
    deleted: Any = store.client.search_runs(experiments, run_view_type=ViewType.DELETED_ONLY, max_results=_PAGE)
    return sum(any(re.match(_PATTERN, key) for key in run.data.metrics) for run in deleted)


def _points_of_server(store: Store, keys: pl.DataFrame) -> pl.DataFrame:
    """Read histories from a server, of up to a hundred runs in one request."""
    asked = [
        (str(key[0]), ids[at : at + _AT_ONCE_SERVER])
        for key, part in keys.sort("key", "run_id").group_by("key", maintain_order=True)
        for ids in (part["run_id"].to_list(),)
        for at in range(0, len(ids), _AT_ONCE_SERVER)
    ]

    def read_part(part: tuple[str, list[str]]) -> list[Point]:
        return _history(store, *part)

    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [row for points in pool.map(read_part, asked) for row in points]
    return pl.DataFrame(rows, schema=POINTS, orient="row").sort("time", maintain_order=True)


def _history(store: Store, key: str, run_ids: list[str]) -> list[Point]:
    """Read one metric of some runs, as MLflow's own web page does; half the runs at a time if an answer is cut off."""
    wanted = [("metric_key", key), *(("run_id", run_id) for run_id in run_ids)]
    answer = _http.http_request(_credentials.get_default_host_creds(store.uri), _HISTORY, "GET", params=wanted)
    if answer is None or answer.status_code != 200:  # the server does not have this route, or does not allow it
        return [point for run_id in run_ids for point in _history_of(store, run_id, key)]
    points = [(point["run_id"], key, point["timestamp"], point["value"]) for point in answer.json()["metrics"]]
    if len(points) < _MOST_POINTS:
        return points
    if len(run_ids) == 1:
        return _history_of(store, run_ids[0], key)
    half = len(run_ids) // 2
    return [*_history(store, key, run_ids[:half]), *_history(store, key, run_ids[half:])]


def _history_of(store: Store, run_id: str, key: str) -> list[Point]:
    """Read all pages of one metric of one run."""
    return [(run_id, key, point.timestamp, point.value) for point in store.client.get_metric_history(run_id, key)]
