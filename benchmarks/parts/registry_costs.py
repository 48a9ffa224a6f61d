"""What the registry and the tracking store cost: a forecast from the registered model, 10,000 runs read back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlRun, SqlTag
from sqlalchemy import create_engine, insert
from tests.servers import mlflow_server

from benchmarks.parts.figures import Figure
from gangplan.forecast.models import demand
from gangplan.forecast.models.bundle import Bundle
from gangplan.forecast.registry import model_versions
from gangplan.forecast.series.panel import Panel
from gangplan.telemetry.sources.mlflow import read_runs
from gangplan.tracking import FORECAST, MODEL, Store

RUNS, POINTS, CHILDREN = 10_000, 12, 4
KEYS = ("system/gpu_0_utilization_percentage", "system/gpu_0_memory_usage_percentage")
HORIZON = 72
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)

FORECAST_IT = """
import sys, time
import mlflow, pandas
begin, used = time.perf_counter(), time.process_time()
mlflow.set_tracking_uri(sys.argv[1])
loaded = mlflow.pyfunc.load_model(sys.argv[2], suppress_warnings=True)
given = pandas.read_parquet(sys.argv[3])
middle = time.perf_counter()
answer = loaded.predict(given, params={"horizon_hours": int(sys.argv[4])})
print(len(answer), time.perf_counter() - begin, time.perf_counter() - middle, time.process_time() - used)
"""


def forecasting(panel: Panel) -> list[Figure]:
    """Time new processes that load the champion by its alias and forecast 200 series for 72 hours; the best of 3.

    Inside are MLflow's registry and its SQL store, the model's code and files, all libraries that it needs, the table
    of demand read from a file, and the answer. The line `import mlflow` comes before; the whole process, from Python's
    start to its end, is timed as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(uri=f"sqlite:///{Path(folder) / 'models.db'}")
        fitted = demand.fit(panel, HORIZON, seed=7)
        with store.run(FORECAST, "train", {}) as run_id:
            uri = model_versions.log_model(store, run_id, Bundle(steering=fitted, tested=fitted))
        version = model_versions.register(store, run_id, uri, {})
        store.client.set_registered_model_alias(MODEL, model_versions.Alias.CHAMPION, version)
        given = Path(folder) / "given.parquet"
        as_table(panel).write_parquet(given)
        words = [store.uri, f"models:/{MODEL}@{model_versions.Alias.CHAMPION}", str(given), str(HORIZON)]
        whole, loaded, asked, used = min(_asked(words, len(panel.keys) * HORIZON) for _ in range(3))
    words = f"predict alone {asked:.2f} s; processor {used:.2f} s"
    imports = f"`import mlflow` alone {_seconds('import mlflow'):.2f} s"
    return [
        Figure(name="forecast_200_s", value=loaded, unit="s", bar="<= 3", peer=words),
        Figure(name="forecast_200_process_s", value=whole, unit="s", peer=imports),
    ]


def _asked(words: list[str], rows: int) -> tuple[float, float, float, float]:
    """Ask a new process: seconds in all, from the load on, of the answer alone; processor time from the load on."""
    begin = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", FORECAST_IT, *words], check=True, capture_output=True, text=True)
    whole = time.perf_counter() - begin
    found, loaded, asked, used = said.stdout.split()[-4:]
    assert int(found) == rows
    return whole, float(loaded), float(asked), float(used)


def _seconds(program: str) -> float:
    """Seconds that a program takes in a new process, the best of 3."""
    took: list[float] = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        took.append(time.perf_counter() - begin)
    return min(took)


def as_table(panel: Panel):
    """Return a panel as the table that the served model takes: times in UTC, without a zone."""
    import polars as pl

    first = panel.start.replace(tzinfo=None)
    hours = [first + timedelta(hours=step) for step in range(panel.hours)]
    parts = [
        pl.DataFrame({"hour": hours, "gpus": row}).with_columns(
            tenant=pl.lit(tenant), workload_class=pl.lit(workload), accelerator=pl.lit(accelerator)
        )
        for (tenant, workload, accelerator), row in zip(panel.keys, panel.values, strict=True)
    ]
    return pl.concat(parts).select("hour", "tenant", "workload_class", "accelerator", "gpus")


def reading() -> list[Figure]:
    """Time reading 10,000 runs with their histories: with nothing kept, and again; and 1,000 from MLflow's server."""
    with tempfile.TemporaryDirectory() as folder:
        return _read_back(Path(folder))


def serving() -> list[Figure]:
    """Time reading 1,000 runs with their histories from `mlflow server`, beside asking it run by run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(uri=f"sqlite:///{folder / 'runs.db'}")
        fill(store, 1000)
        with mlflow_server(store.uri, folder) as url:
            begin = time.perf_counter()
            found = read_runs(f"mlflow+{url}", NOW)
            took = time.perf_counter() - begin
            assert found.jobs.height == 1000 - 1000 // CHILDREN
            client, runs = MlflowClient(url), 50
            begin = time.perf_counter()
            for run in client.search_runs(["0"], max_results=runs):
                for key in KEYS:
                    client.get_metric_history(run.info.run_id, key)
            peer = (time.perf_counter() - begin) * 1000 / runs
    words = f"run by run {peer:.0f} s"
    return [Figure(name="mlflow_read_http_1000_s", value=took, unit="s", bar="<= 10", peer=words)]


def _read_back(folder: Path) -> list[Figure]:
    """Fill a store and read it twice."""
    store = Store(uri=f"sqlite:///{folder / 'runs.db'}")
    fill(store)
    cache = folder / "cache" / "runs.parquet"
    took: list[float] = []
    for _ in range(2):
        begin = time.perf_counter()
        telemetry = read_runs(f"mlflow+{store.uri}", NOW, cache=cache)
        took.append(time.perf_counter() - begin)
        assert telemetry.jobs.height == RUNS - RUNS // CHILDREN, telemetry.jobs.height
    begin = time.perf_counter()
    found = store.client.search_runs(["0"], run_view_type=ViewType.ACTIVE_ONLY, max_results=RUNS)
    peer = f"MLflow's search_runs, {len(found)} runs without history {time.perf_counter() - begin:.1f} s"
    return [
        Figure(name="mlflow_read_cold_s", value=took[0], unit="s", bar="<= 10", peer=peer),
        Figure(name="mlflow_read_warm_s", value=took[1], unit="s", bar="<= 3"),
    ]


def fill(store: Store, count: int = RUNS) -> None:
    """Write 10,000 runs, or so many, each fourth nested in the one before, each with 24 points of GPU metrics."""
    _ = store.client
    rng = np.random.default_rng(3)
    first = int((NOW - timedelta(days=60)).timestamp() * 1000)
    starts = first + rng.integers(0, 59 * 24, count) * 3_600_000
    ids = [f"{place:032x}" for place in range(count)]
    runs, tags, points, latest = [], [], [], []
    for place, (run_id, start) in enumerate(zip(ids, map(int, starts), strict=True)):
        nested = place % CHILDREN == CHILDREN - 1
        begin = int(starts[place - 1]) if nested else start
        runs.append(a_run(run_id, begin))
        tags.append({"run_uuid": run_id, "key": "gangplan.tenant", "value": f"tenant-{place % 20:02}"})
        if nested:
            tags.append({"run_uuid": run_id, "key": "mlflow.parentRunId", "value": ids[place - 1]})
        for key in KEYS:
            values = rng.uniform(20, 95, POINTS)
            rows = [a_point(run_id, key, begin + 300_000 * at, at, value) for at, value in enumerate(values)]
            points += rows
            latest.append(rows[-1])
    engine = create_engine(store.uri)
    with engine.begin() as connection:
        for table, rows in ((SqlRun, runs), (SqlTag, tags), (SqlMetric, points), (SqlLatestMetric, latest)):
            connection.execute(insert(table), rows)
    engine.dispose()


def a_run(run_id: str, start: int) -> dict[str, object]:
    """Return a finished run of an hour."""
    return {
        "run_uuid": run_id,
        "name": run_id[-6:],
        "status": "FINISHED",
        "start_time": start,
        "end_time": start + 3_600_000,
        "lifecycle_stage": "active",
        "experiment_id": 0,
        "artifact_uri": "",
        "source_type": "LOCAL",
        "user_id": os.environ.get("USER", ""),
    }


def a_point(run_id: str, key: str, stamp: int, step: int, value: float) -> dict[str, object]:
    """Return a metric's point."""
    return {
        "run_uuid": run_id,
        "key": key,
        "timestamp": stamp,
        "step": step,
        "value": float(value),
        "is_nan": False,
    }
