"""A drift that is seen in Airflow asks for a training: the asset is updated with the cause, once a day."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from airflow.models.asset import AssetEvent
from airflow.sdk import DAG
from airflow.utils.session import create_session
from tests.airflow.versions import DagBag

from gangplan import cycle, forecast, telemetry
from gangplan.config import load_settings, present
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import Store, open_store

ROOT = Path(__file__).resolve().parents[2]
HOURS, SINCE = 480, timedelta(days=5)


@pytest.fixture(scope="module")
def dag(metadata: None) -> DAG:
    """The DAG that looks."""
    bag = DagBag(str(ROOT / "tests" / "airflow" / "dags"))
    assert bag.import_errors == {}
    return bag.dags["gangplan_drift"]


@pytest.fixture
def store(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A champion of five days ago, and telemetry until now."""
    file = tmp_path / "mlflow" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(mlflow_template, file)
    given = {"MLFLOW": f"sqlite:///{file}", "HOME": str(tmp_path), "HORIZON_HOURS": "24", "BACKTEST_ORIGINS": "5"}
    for name, value in given.items():
        monkeypatch.setenv(f"GANGPLAN_{name}", value)
    cycle.ingest(load_settings(), str(written(tmp_path)))
    store = open_store(load_settings())
    usage = telemetry.read_usage(store)
    known = replace(usage, end=usage.end - SINCE, demand=usage.demand.filter(pl.col("hour") < usage.end - SINCE))
    forecast.retrain(known, store, settings=load_settings(), clock=lambda: present() - SINCE)
    return store


def written(folder: Path) -> Path:
    """A file of one series with a daily cycle."""
    clock = np.arange(HOURS)
    values = 40 + 10 * np.sin(2 * np.pi * clock / 24) + np.random.default_rng(3).normal(0, 2, HOURS)
    first = present().replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS)
    rows = [
        f"{(first + timedelta(hours=at)).isoformat()},chat,latency,h100,{gpus:.2f}" for at, gpus in enumerate(values)
    ]
    file = folder / "demand.csv"
    file.write_text("\n".join(["hour,tenant,workload_class,accelerator,gpus", *rows]) + "\n")
    return file


def events() -> list[dict[str, str]]:
    """What was said with each update of the asset, the oldest first."""
    with create_session() as session:
        found = session.query(AssetEvent).order_by(AssetEvent.id)
        return [dict(one.extra) for one in found if one.asset.name == "gangplan_drift"]


def ran(dag: DAG) -> dict[str, str]:
    """Run the DAG and return its tasks' states."""
    ended = dag.test()
    return {row.task_id: str(row.state) for row in ended.get_task_instances()}


def test_drift_asks_for_a_training_once(dag: DAG, store: Store) -> None:
    """A sound champion asks for nothing; one that promised far more does, until a training has answered."""
    assert ran(dag) == {"judge": "success", "ask_for_training": "skipped"}
    assert events() == []

    run_id = str(store.client.get_model_version("gangplan-demand", "1").run_id)
    promised = store.read_table(run_id, "backtest")
    near = [(pl.col("gpus") * 1.002).alias(name) for name in QUANTILE_COLUMNS]
    store.log_table(run_id, "backtest", promised.with_columns(near))
    assert ran(dag) == {"judge": "success", "ask_for_training": "success"}
    assert "promised" in events()[-1]["cause"]

    usage = telemetry.read_usage(store)
    because = f"drift: {events()[-1]['cause']}"
    forecast.retrain(usage, store, settings=load_settings(), clock=present, because=because)
    assert ran(dag) == {"judge": "success", "ask_for_training": "skipped"}
    assert len(events()) == 1
