# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (MLflow's paged lists and its database's tables carry no types)
"""All runs of an MLflow tracking store that have GPU metrics, with these metrics' whole history, as two tables.

A store in a database is asked in bulk, in MLflow's own tables: run by run, 10,000 runs take minutes. A server is asked
for a metric of a hundred runs at once, as its own page does. Histories are kept in a cache file by what they are of: a
run that has ended is read again only when its newest points are others than before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlMetric, SqlRun, SqlTag
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from gangplan.progress import Progress
from gangplan.tracking import Store

TAGS = ("gangplan.tenant", "gangplan.workload_class", "gangplan.accelerator", "gangplan.node", "mlflow.parentRunId")
RUNS = {
    "run_id": pl.String(),
    "experiment": pl.String(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    **dict.fromkeys(TAGS, pl.String()),
    "content": pl.String(),
}
"""start, end: MLflow's milliseconds, end is null while it runs. content: of the newest points, to know a run again."""

POINTS = {"run_id": pl.String(), "key": pl.String(), "time": pl.Int64(), "value": pl.Float64()}

_NEWEST = {"run_id": pl.String(), "key": pl.String(), "time": pl.Int64(), "step": pl.Int64(), "value": pl.Float64()}
_PATTERN = r"^system/(?:[^/]+/)?gpu_\d+_(?:utilization|memory_usage)_percentage$"
_LIKE = "system/%gpu%percentage"
_AT_ONCE = 500
_PAGE = 1000
_THREADS = 8
_HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_AT_ONCE_SERVER = 100  # runs, the most that MLflow's server takes
_MOST_POINTS = 25_000  # at which its answer is cut off
Point = tuple[str, str, int, float]


def read(store: Store, cache: Path | None, progress: Progress) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the runs (`RUNS`, by their start), their points (`POINTS`, by time) and how many runs there are in all."""
    progress(0, 4, "listing runs with GPU metrics")
    listed, newest, total = _listed(store)
    runs = listed.join(_contents(newest), on="run_id", how="inner").sort("start", "run_id").select(list(RUNS))
    kept = _cached(cache, runs)
    missing = runs.join(kept, on="run_id", how="anti")
    progress(1, 4, f"reading the history of {missing.height} runs")
    keys = newest.join(missing, on="run_id", how="semi").select("run_id", "key")
    points = pl.concat([kept.select(list(POINTS)), _points(store, keys)])
    progress(3, 4, "keeping what was read")
    if cache is not None and missing.height:
        _keep(cache, runs, points)
    return runs, points, total


def _contents(newest: pl.DataFrame) -> pl.DataFrame:
    """Sum each run's newest points up in a digest."""
    text = pl.concat_str(["key", "time", "step", pl.col("value").cast(pl.String)], separator="|", ignore_nulls=True)
    joined = newest.sort("run_id", "key").group_by("run_id", maintain_order=True).agg(text.str.join("\n").alias("text"))
    digests = [hashlib.sha256(one.encode()).hexdigest() for one in joined["text"]]
    return joined.select("run_id", pl.Series("content", digests, dtype=pl.String))


def _cached(cache: Path | None, runs: pl.DataFrame) -> pl.DataFrame:
    """Return the points of the cache that are of runs as they are now; none where a run has not ended."""
    schema = {**POINTS, "content": pl.String()}
    if cache is None or not cache.exists():
        return pl.DataFrame(schema=schema)
    try:
        kept = pl.read_parquet(cache)
    except pl.exceptions.PolarsError:  # no cache of ours, or half of one: read anew
        return pl.DataFrame(schema=schema)
    if kept.schema != pl.Schema(schema):
        return pl.DataFrame(schema=schema)
    ended = runs.filter(pl.col("end").is_not_null())
    return kept.join(ended.select("run_id", "content"), on=["run_id", "content"], how="semi")


def _keep(cache: Path, runs: pl.DataFrame, points: pl.DataFrame) -> None:
    """Write the cache whole or not at all."""
    ended = runs.filter(pl.col("end").is_not_null()).select("run_id", "content")
    cache.parent.mkdir(parents=True, exist_ok=True)
    staging = cache.with_name(f".{cache.name}.new")
    points.join(ended, on="run_id", how="inner").write_parquet(staging, compression="lz4")
    staging.replace(cache)


def _listed(store: Store) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the runs without `content`, the newest points of their GPU metrics, and how many runs there are."""
    if store.uri.startswith(("http://", "https://")):
        return _listed_by_server(store)
    with _database(store) as ask:
        return _listed_by_database(ask)


def _points(store: Store, keys: pl.DataFrame) -> pl.DataFrame:
    """Return the history of these metrics."""
    if store.uri.startswith(("http://", "https://")):
        return _points_of_server(store, keys)
    with _database(store) as ask:
        return _points_of_database(ask, keys["run_id"].unique().sort().to_list())


Ask = Callable[[sa.Executable, dict[str, Any]], pl.DataFrame]


@contextmanager
def _database(store: Store) -> Generator[Ask]:
    """Open the store's database, and give what asks it."""
    _ = store.client  # MLflow itself says what is wrong with a database that it cannot use
    engine = sa.create_engine(store.uri)
    try:
        with engine.connect() as connection:

            def ask(query: sa.Executable, schema: dict[str, Any]) -> pl.DataFrame:
                rows = connection.execute(query).fetchall()
                columns = list(zip(*rows, strict=True)) or [()] * len(schema)
                return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema, strict=False)

            yield ask
    finally:
        engine.dispose()


def _listed_by_database(ask: Ask) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """List a database's active runs."""
    plain = {name: kind for name, kind in RUNS.items() if name not in TAGS and name != "content"}
    runs = ask(
        sa.select(SqlRun.run_uuid, SqlExperiment.name, SqlRun.start_time, SqlRun.end_time)
        .join(SqlExperiment, SqlExperiment.experiment_id == SqlRun.experiment_id)
        .where(SqlRun.lifecycle_stage == "active", SqlExperiment.lifecycle_stage == "active"),
        plain,
    )
    latest = sa.select(
        SqlLatestMetric.run_uuid,
        SqlLatestMetric.key,
        SqlLatestMetric.timestamp,
        SqlLatestMetric.step,
        SqlLatestMetric.value,
    ).where(SqlLatestMetric.key.like(_LIKE))
    newest = ask(latest, _NEWEST).filter(pl.col("key").str.contains(_PATTERN))
    tags = ask(
        sa.select(SqlTag.run_uuid, SqlTag.key, SqlTag.value).where(SqlTag.key.in_(TAGS)),
        {"run_id": pl.String(), "key": pl.String(), "value": pl.String()},
    )
    return runs.join(_wide(tags), on="run_id", how="left"), newest, runs.height


def _wide(tags: pl.DataFrame) -> pl.DataFrame:
    """One column for each tag."""
    each = [pl.col("value").filter(pl.col("key") == tag).first().alias(tag) for tag in TAGS]
    return tags.group_by("run_id").agg(each)


def _points_of_database(ask: Ask, run_ids: Sequence[str]) -> pl.DataFrame:
    """Read histories out of a database: of all runs at once where most are wanted, else of some hundreds at a time."""
    whole = sa.select(SqlMetric.run_uuid, SqlMetric.key, SqlMetric.timestamp, SqlMetric.value, SqlMetric.is_nan)
    gpu = whole.where(SqlMetric.key.like(_LIKE)).order_by(SqlMetric.timestamp, SqlMetric.step)
    schema = {**POINTS, "nan": pl.Boolean()}
    if len(run_ids) > 10 * _AT_ONCE:
        parts = [ask(gpu, schema).filter(pl.col("run_id").is_in(run_ids))]
    else:
        starts = range(0, len(run_ids), _AT_ONCE)
        parts = [ask(gpu.where(SqlMetric.run_uuid.in_(run_ids[at : at + _AT_ONCE])), schema) for at in starts]
    found = pl.concat([pl.DataFrame(schema=schema), *parts]).filter(pl.col("key").str.contains(_PATTERN))
    number = pl.when("nan").then(float("nan")).otherwise(pl.col("value")).alias("value")
    return found.with_columns(number).select(list(POINTS))


def _listed_by_server(store: Store) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """List a server's active runs, page by page."""
    names = {each.experiment_id: each.name for each in store.client.search_experiments()}
    runs: list[tuple[Any, ...]] = []
    newest: list[tuple[Any, ...]] = []
    page: str | None = None
    while True:
        found = store.client.search_runs(list(names), max_results=_PAGE, page_token=page)
        for run in found:
            tags = [run.data.tags.get(tag) for tag in TAGS]
            info = run.info
            runs.append((info.run_id, names[info.experiment_id], info.start_time, info.end_time or None, *tags))
            newest += [(info.run_id, m.key, m.timestamp, m.step, m.value) for m in run.data._metric_objs]  # pyright: ignore[reportPrivateUsage]
        page = found.token
        if not page:
            break
    columns = {name: kind for name, kind in RUNS.items() if name != "content"}
    latest = pl.DataFrame(newest, schema=_NEWEST, orient="row").filter(pl.col("key").str.contains(_PATTERN))
    return pl.DataFrame(runs, schema=columns, orient="row"), latest, len(runs)


def _points_of_server(store: Store, keys: pl.DataFrame) -> pl.DataFrame:
    """Read histories from a server, of a hundred runs at once where it can do that."""
    asked = [
        (str(key[0]), ids[at : at + _AT_ONCE_SERVER])
        for key, part in keys.sort("key", "run_id").group_by("key", maintain_order=True)
        for ids in (part["run_id"].to_list(),)
        for at in range(0, len(ids), _AT_ONCE_SERVER)
    ]

    def read_some(one: tuple[str, list[str]]) -> list[Point]:
        return _history(store, *one)

    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [row for each in pool.map(read_some, asked) for row in each]
    return pl.DataFrame(rows, schema=POINTS, orient="row").sort("time", maintain_order=True)


def _history(store: Store, key: str, run_ids: list[str]) -> list[Point]:
    """Read one metric of some runs: what MLflow's own page asks for; of fewer runs where an answer was cut off."""
    wanted = [("metric_key", key), *(("run_id", run_id) for run_id in run_ids)]
    answer = http_request(get_default_host_creds(store.uri), _HISTORY, "GET", params=wanted)
    if answer is None or answer.status_code != 200:  # a server without it, or one that does not allow it: run by run
        return [point for run_id in run_ids for point in _history_of(store, run_id, key)]
    found = [(one["run_id"], key, one["timestamp"], one["value"]) for one in answer.json()["metrics"]]
    if len(found) < _MOST_POINTS:
        return found
    if len(run_ids) == 1:
        return _history_of(store, run_ids[0], key)
    half = len(run_ids) // 2
    return [*_history(store, key, run_ids[:half]), *_history(store, key, run_ids[half:])]


def _history_of(store: Store, run_id: str, key: str) -> list[Point]:
    """Read one metric of one run, all pages of it."""
    return [(run_id, key, point.timestamp, point.value) for point in store.client.get_metric_history(run_id, key)]
