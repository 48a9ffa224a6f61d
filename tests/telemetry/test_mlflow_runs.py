"""MLflow runs' GPU system metrics become jobs, demand and node metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from mlflow.entities import Metric
from tests.servers import mlflow_server

from gangplan.errors import InputError, UnavailableError
from gangplan.progress import no_progress
from gangplan.telemetry.sources import mlflow_history
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.sources.mlflow import read_runs
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store
from gangplan.types import SERIES

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _read(store: Store) -> Telemetry:
    """Read the store as the ingest does."""
    return load(f"mlflow+{store.uri}", seed=7, clock=lambda: NOW, progress=no_progress)


def _ms(moment: datetime) -> int:
    """Return MLflow's time."""
    return int(moment.timestamp() * 1000)


def _run(
    store: Store,
    experiment: str,
    busy: dict[str, list[float]],
    *,
    start: datetime = START,
    hours: float = 3,
    tags: dict[str, str] | None = None,
    ended: bool = True,
) -> str:
    """Log a run with samples every half hour for each key of system metrics; the last is idle, as on a real host."""
    found = store.client.get_experiment_by_name(experiment)
    home = found.experiment_id if found else store.client.create_experiment(experiment)
    run = store.client.create_run(home, start_time=_ms(start), tags=tags)
    points = [
        Metric(f"system/{key}", value, _ms(start + index * HOUR / 2), index)
        for key, values in busy.items()
        for index, value in enumerate(values)
    ]
    store.client.log_batch(run.info.run_id, metrics=points)
    if ended:
        store.client.set_terminated(run.info.run_id, end_time=_ms(start + hours * HOUR))
    return run.info.run_id


def test_run_is_a_job_of_the_gpus_that_it_kept_busy(mlflow_store: Store):
    """Of a host's four GPUs two were busy at some time: the run asked for two, from its start to its end."""
    run_id = _run(
        mlflow_store,
        "Fraud models/v2",
        {
            "gpu_0_utilization_percentage": [90, 90, 0],
            "gpu_1_utilization_percentage": [0, 40, 0],
            "gpu_2_utilization_percentage": [0, 0.5, 0],
            "gpu_3_utilization_percentage": [0, 0, 0],
            "gpu_0_memory_usage_percentage": [50, 70, 0],
            "cpu_utilization_percentage": [10, 10, 10],
        },
    )
    read = _read(mlflow_store)
    assert read.jobs.rows() == [
        (run_id, "Fraud-models-v2", "throughput", "any", 2.0, START, START, START + 3 * HOUR),
    ]
    assert read.demand["gpus"].to_list() == [2, 2, 2, *[0] * ((read.end - START) // HOUR - 3)]
    assert (read.start, read.end) == (START, NOW.replace(minute=0)), "a store is read live, up to the present hour"
    first = read.nodes.row(0, named=True)
    assert (first["time"], first["node"]) == (START, run_id[:12])
    assert first["gpu_utilization"] == pytest.approx((0.9 + 0.9 + 0 + 0.4 + 0 + 0.005 + 0 + 0) / 8)
    assert first["gpu_memory_utilization"] == pytest.approx(0.6)
    assert read.live


def test_tags_name_the_series_and_keys_name_the_nodes(mlflow_store: Store):
    """Tags gangplan.* win over the guess; a run over two nodes counts the GPUs of both."""
    tags = {
        "gangplan.tenant": "risk",
        "gangplan.workload_class": "cost",
        "gangplan.accelerator": "h100",
        "gangplan.node": "n9",
    }
    keys = {f"{node}/gpu_0_utilization_percentage": [50.0] for node in ("n1", "n2")}
    _run(mlflow_store, "e", keys, tags=tags)
    _run(mlflow_store, "e", {"gpu_0_utilization_percentage": [50.0]}, tags=tags)
    read = _read(mlflow_store)
    rows = read.jobs.select(*SERIES, "gpus").sort("gpus").rows()
    assert rows == [("risk", "cost", "h100", 1), ("risk", "cost", "h100", 2)]
    assert set(read.nodes["node"]) == {"n1", "n2", "n9"}
    assert set(read.nodes["accelerator"]) == {"h100"}


def test_killed_run_ends_with_its_last_sample_and_a_running_one_does_not(mlflow_store: Store):
    """A run that says RUNNING but was silent for an hour was killed."""
    busy = {"gpu_0_utilization_percentage": [80.0, 80.0, 80.0]}
    killed = _run(mlflow_store, "e", busy, ended=False)
    alive = _run(mlflow_store, "e", busy, start=NOW - HOUR, ended=False)
    read = _read(mlflow_store)
    assert dict(read.jobs.select("job_id", "ended_at").iter_rows()) == {killed: START + HOUR, alive: None}
    assert read.notes == ("1 run is still RUNNING but silent for an hour: its last sample is taken for its end",)


def test_deleted_and_nested_runs_are_counted(mlflow_store: Store):
    """What is left out is said with its number."""
    busy = {"gpu_0_utilization_percentage": [80.0, 80.0]}
    outer = _run(mlflow_store, "e", busy)
    for _ in range(2):
        _run(mlflow_store, "e", busy, tags={"mlflow.parentRunId": outer})
        mlflow_store.client.delete_run(_run(mlflow_store, "e", busy))
    mlflow_store.client.delete_run(_run(mlflow_store, "e", {"cpu_utilization_percentage": [1.0]}))
    assert _read(mlflow_store).notes == (
        "2 runs with GPU metrics are deleted: they are left out",
        "2 runs are nested in one that samples the same GPUs: they count as part of it",
    )


def test_bad_samples_and_bad_runs_are_named(mlflow_store: Store):
    """No percentage, an end before the start, an unknown class: each named and kept out; runs without GPUs skipped."""
    good = _run(mlflow_store, "e", {"gpu_0_utilization_percentage": [80.0, 180.0, -1.0]})
    key, one = "system/gpu_0_utilization_percentage", {"gpu_0_utilization_percentage": [80.0]}
    backwards = _run(mlflow_store, "e", one, hours=-1)
    other = _run(mlflow_store, "e", one, tags={"gangplan.workload_class": "training"})
    _run(mlflow_store, "e", {"gpu_0_utilization_percentage": [0.0]})
    _run(mlflow_store, "e", {"cpu_utilization_percentage": [80.0]})
    read = _read(mlflow_store)
    assert read.jobs["job_id"].to_list() == [good]
    assert {(bad.place, bad.field, bad.value) for bad in read.rejected} == {
        (f"run {backwards}", "ended_at", (START - HOUR).isoformat()),
        (f"run {other}", "workload_class", "training"),
        (f"run {good}", key, "180.0"),
        (f"run {good}", key, "-1.0"),
    }
    assert {bad.line for bad in read.rejected if bad.field == key} == {2, 3}
    assert (read.rejected_count, read.skipped) == (4, 1)
    assert read.notes == (
        "1 run has no GPU metrics: it is no job",
        "1 run never kept a GPU busy: it is left out",
    )


def test_store_without_gpu_runs_is_refused(mlflow_store: Store):
    """No run kept a GPU busy: the remedy says how to log that."""
    with pytest.raises(InputError, match="enable_system_metrics_logging"):
        _read(mlflow_store)


def test_missing_store_is_refused_and_not_made(tmp_path: Path):
    """A mistyped path does not leave an empty database behind."""
    file = tmp_path / "no" / "mlflow.db"
    with pytest.raises(InputError, match="is not there"):
        _read(Store(uri=f"sqlite:///{file}"))
    assert not file.parent.exists()


def test_server_that_is_down_is_unavailable_at_once():
    """Nothing listens: no minutes of retries."""
    with pytest.raises(UnavailableError, match="cannot be reached") as refused:
        _read(Store(uri="http://me:s3cret@127.0.0.1:9"))
    assert "s3cret" not in str(refused.value)


def test_other_schemes_are_refused():
    """What is no tracking URI is no source."""
    with pytest.raises(InputError, match="is no MLflow tracking URI"):
        _read(Store(uri="ftp://host"))


def test_nested_run_is_a_part_of_one_that_samples_the_same_gpus(mlflow_store: Store):
    """A child's GPUs are its parent's; the trials of a sweep whose parent samples none are jobs of their own."""
    busy = {"gpu_0_utilization_percentage": [80.0, 80.0]}
    outer = _run(mlflow_store, "e", {**busy, "gpu_1_utilization_percentage": [70.0, 0.0]})
    inner = _run(mlflow_store, "e", busy, tags={"mlflow.parentRunId": outer})
    _run(mlflow_store, "e", busy, tags={"mlflow.parentRunId": inner})
    sweep = _run(mlflow_store, "e", {"cpu_utilization_percentage": [1.0]})
    trial = _run(mlflow_store, "e", busy, tags={"mlflow.parentRunId": sweep})
    read = _read(mlflow_store)
    assert dict(read.jobs.select("job_id", "gpus").iter_rows()) == {outer: 2.0, trial: 1.0}
    assert read.skipped == 2


def _cached(store: Store, file: Path) -> Telemetry:
    """Read the store with a cache."""
    return read_runs(f"mlflow+{store.uri}", NOW, cache=file)


def test_cache_is_by_content_and_never_wrong(mlflow_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ended runs are read once; a new, running, changed or deleted one is seen; a broken cache is not used."""
    asked: list[int] = []
    points = mlflow_history._points

    def counted(store: Store, keys: pl.DataFrame) -> pl.DataFrame:
        asked.append(keys["run_id"].n_unique())
        return points(store, keys)

    monkeypatch.setattr(mlflow_history, "_points", counted)
    busy, file = {"gpu_0_utilization_percentage": [80.0, 60.0]}, tmp_path / "cache" / "runs.parquet"
    first, _ = (_run(mlflow_store, "e", busy) for _ in range(2))
    _run(mlflow_store, "e", busy, start=NOW - HOUR, ended=False)
    plain = _read(mlflow_store)
    for _ in range(2):
        read = _cached(mlflow_store, file)
        assert read.jobs.equals(plain.jobs)
        assert read.nodes.equals(plain.nodes)
    assert asked == [3, 3, 1]  # without a cache, with an empty one, and the one that still runs
    key = "system/gpu_1_utilization_percentage"
    mlflow_store.client.log_metric(first, key, 50.0, timestamp=_ms(START + HOUR), step=9)
    assert sorted(_cached(mlflow_store, file).jobs["gpus"]) == [1.0, 1.0, 2.0]
    assert asked[-1] == 2
    mlflow_store.client.delete_run(first)
    assert first not in _cached(mlflow_store, file).jobs["job_id"]
    mlflow_store.client.restore_run(first)
    for broken in (b"", b"half of a file", file.read_bytes()[:-20]):
        file.write_bytes(broken)
        assert _cached(mlflow_store, file).jobs.height == 3


def _writes_no_password(url: str, beneath: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """Write to a server whose URL has a password: MLflow prints no link with it, and the database holds none."""
    own = Store(uri=url.replace("http://", "http://ada:s3cret@"))
    capfd.readouterr()
    with own.run("gangplan/telemetry", "a run", {}) as run_id:
        own.log_table(run_id, "demand", pl.DataFrame({"gpus": [1.0]}))
    assert own.read_table(run_id, "demand").height == 1
    assert "".join(capfd.readouterr()) == ""
    assert beneath.folder is not None
    assert b"s3cret" not in (beneath.folder / "mlflow.db").read_bytes()


def test_server_is_read_in_bulk_and_says_what_its_store_says(
    mlflow_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Over HTTP, 130 runs with two metrics give the same tables, by four requests; what is cut off, in parts."""
    for number in range(130):
        samples = {"utilization": [60.0, float(number % 100), 0.0], "memory_usage": [50.0]}
        busy = {f"gpu_0_{name}_percentage": values for name, values in samples.items()}
        _run(mlflow_store, f"team-{number % 3}", busy, start=START + number % 7 * HOUR)
    with mlflow_server(mlflow_store.uri, tmp_path) as url:
        served, *_ = mlflow_history._listed(store := Store(uri=url))
        tables = _read(store)
        asked = [line for line in (tmp_path / "server.log").read_text().splitlines() if "metrics/get-history" in line]
        keys = served.head(3).select("run_id").with_columns(key=pl.lit("system/gpu_0_utilization_percentage"))
        whole = mlflow_history._points_of_server(store, keys)
        monkeypatch.setattr(mlflow_history, "_MOST_POINTS", 5)  # the server's limit is 25,000
        parts = mlflow_history._points_of_server(store, keys)
        deleted = next(run_id for run_id in keys["run_id"])
        store.client.delete_run(deleted)
        noted = _read(store).notes
        store.client.restore_run(deleted)
        _writes_no_password(url, mlflow_store, capfd)
    direct = _read(mlflow_store)
    assert noted == ("1 run with GPU metrics is deleted: it is left out",)
    for name in ("jobs", "demand", "nodes"):
        assert getattr(tables, name).equals(getattr(direct, name)), name
    assert ["get-history-bulk" in line for line in asked] == [True] * 4
    assert whole.height == 9
    assert parts.sort("run_id", "time").equals(whole.sort("run_id", "time"))
