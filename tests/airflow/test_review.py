"""A person's word on a model, given in Airflow: asked by its own ApprovalOperator, answered by its API, carried out."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from airflow.sdk import DAG
from fastapi.testclient import TestClient
from tests.airflow.versions import AIRFLOW, DagBag

from gangplan import forecast
from gangplan.config import load_settings
from gangplan.forecast.registry import model_versions
from gangplan.tables import EVENTS, JOBS, NODES, QUEUE, REQUESTS, conform, empty
from gangplan.testing import NOW
from gangplan.tracking import FORECAST, MODEL, Store, open_store, table_sha256
from gangplan.types import Usage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dag(metadata: None) -> DAG:
    """The DAG that asks."""
    bag = DagBag(str(ROOT / "tests" / "airflow" / "dags"))
    assert bag.import_errors == {}
    return bag.dags["gangplan_review"]


@pytest.fixture
def empty_store(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An MLflow with nothing in it, known to the tasks by the environment; a person decides on its models."""
    file = tmp_path / "mlflow" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(mlflow_template, file)
    given = {"MLFLOW": f"sqlite:///{file}", "HOME": str(tmp_path), "PROMOTION": "person"}
    for name, value in {**given, "HORIZON_HOURS": "24", "BACKTEST_ORIGINS": "2"}.items():
        monkeypatch.setenv(f"GANGPLAN_{name}", value)
    return open_store(load_settings())


@pytest.fixture
def store(empty_store: Store) -> Store:
    """A registry with a champion, and a challenger that waits for a person."""
    for more in (1.0, 1.1):
        forecast.retrain(a_usage(more), empty_store, settings=load_settings(), clock=lambda: NOW)
    return empty_store


def a_usage(more: float = 1.0, hours: int = 300) -> Usage:
    """Telemetry of one series with a daily cycle that is so many times as large."""
    random = np.random.default_rng(3)
    clock = np.arange(hours)
    values = 40 + 10 * more * np.sin(2 * np.pi * clock / 24) + random.normal(0, 2, hours)
    start = NOW - hours * (NOW.replace(hour=1) - NOW.replace(hour=0))
    frame = pl.DataFrame({"hour": pl.datetime_range(start, NOW, "1h", closed="left", eager=True), "gpus": values})
    series = {"tenant": "language", "workload_class": "latency", "accelerator": "h100"}
    from gangplan.tables import DEMAND

    demand = conform("demand", frame.with_columns(**{name: pl.lit(value) for name, value in series.items()}), DEMAND)
    nothing = {"jobs": JOBS, "nodes": NODES, "queue": QUEUE, "requests": REQUESTS, "events": EVENTS}
    return Usage(
        source="synthetic",
        sha256=table_sha256(demand),
        start=start,
        end=NOW,
        demand=demand,
        **{name: empty(schema) for name, schema in nothing.items()},
    )


def answered(dag: DAG, web: TestClient, choice: str, why: str | None) -> tuple[str, dict[str, str], dict[str, str]]:
    """Run the DAG and answer its question as soon as it is asked; return its state, its tasks' and the question."""
    asked: dict[str, str] = {}
    over = threading.Event()

    def reply() -> None:
        details = f"/api/v2/dags/{dag.dag_id}/dagRuns/~/hitlDetails"
        while not over.wait(0.5):  # however slow the machine is: the run waits for the answer for ever
            open_ones = web.get(details, params={"response_received": False}).json()["hitl_details"]
            if open_ones:
                asked.update({name: open_ones[0][name] for name in ("subject", "body")})
                run_id = quote(open_ones[0]["task_instance"]["dag_run_id"], safe="")
                path = f"/api/v2/dags/{dag.dag_id}/dagRuns/{run_id}/taskInstances/ask/-1/hitlDetails"
                said = web.patch(path, json={"chosen_options": [choice], "params_input": {"why": why}})
                asked["status"] = str(said.status_code)
                return

    person = threading.Thread(target=reply)
    person.start()
    ended = dag.test()
    over.set()
    person.join()
    return str(ended.state), {row.task_id: str(row.state) for row in ended.get_task_instances()}, asked


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="before Airflow 3.3, `dag.test` gives a waiting question no answer")
def test_a_person_decides_in_airflow(dag: DAG, web: TestClient, store: Store) -> None:
    """Approved, the version is champion; rejected, it is not: each in the name of who answered, with their reason."""
    state, tasks, asked = answered(dag, web, "Approve", "fits the weekend")
    assert (state, asked["status"]) == ("success", "200"), tasks
    assert asked["subject"] == "Demand model: may version 2 steer?"
    assert "its loss is" in asked["body"]
    assert "[The report, with pictures](/gangplan/models/2)" in asked["body"]
    assert model_versions.alias(store, "champion") == "2"
    last = forecast.history(store)[-1]
    assert (last.action, last.by, last.why) == ("approved", "admin (Airflow)", "fits the weekend")

    first = store.client.get_model_version(MODEL, "1")
    store.client.set_registered_model_alias(MODEL, "challenger", "1")
    store.client.delete_model_version_tag(MODEL, "1", "promoted_at")
    state, tasks, _ = answered(dag, web, "Reject", None)
    assert (state, tasks["heard"], tasks["carry_out"]) == ("success", "skipped", "success")
    assert forecast.show_version(store, str(first.version)).rejected == "no reason was given"
    assert model_versions.alias(store, "champion") == "2"
    assert store.runs(FORECAST, {"kind": "training"}, limit=9)
