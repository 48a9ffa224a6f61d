"""Telemetry goes into MLflow once, and everything after reads it from there."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.errors import NotFoundError
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import SERIES

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)


def test_sample_is_read_back_from_mlflow_alone(sample_store: Store):
    """A second client of the same store finds 120 days and more, hourly, up to the present hour."""
    usage = telemetry.read_usage(Store(uri=sample_store.uri))
    assert usage.end == datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert usage.end - usage.start >= timedelta(days=120)
    hours = (usage.end - usage.start) // timedelta(hours=1)
    per_series = usage.demand.group_by(SERIES).agg(pl.len(), pl.n_unique("hour").alias("hours"))
    assert per_series.height == 9
    assert set(per_series["len"]) == set(per_series["hours"]) == {hours}


def test_usage_has_the_declared_schemas(sample_store: Store):
    """Every table comes back with the columns and types that the stages agreed on."""
    usage = telemetry.read_usage(sample_store)
    frames = {
        "demand": DEMAND,
        "jobs": JOBS,
        "nodes": NODES,
        "queue": QUEUE,
        "requests": REQUESTS,
        "events": EVENTS,
    }
    assert {name: dict(getattr(usage, name).schema) for name in frames} == frames


def test_demand_is_logged_as_metrics_with_history(sample_store: Store):
    """MLflow's own metric history of a series is its hourly demand, at the hour's time and index."""
    usage = telemetry.read_usage(sample_store)
    assert usage.run_id is not None
    history = sample_store.client.get_metric_history(usage.run_id, "demand/language/latency/h100")
    series = usage.demand.filter(tenant="language", workload_class="latency", accelerator="h100").drop_nulls("gpus")
    assert [point.value for point in history] == series["gpus"].to_list()
    assert [point.timestamp for point in history] == series["hour"].dt.epoch("ms").to_list()
    assert [point.step for point in history] == ((series["hour"] - usage.start).dt.total_hours()).to_list()


def test_run_names_its_data_set_its_digests_and_its_parameters(sample_store: Store):
    """The import's run says what it was made of, by sha256, in MLflow's own places."""
    usage = telemetry.read_usage(sample_store)
    assert usage.run_id is not None
    run = sample_store.client.get_run(usage.run_id)
    (dataset,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in dataset.tags}["sha256"] == usage.sha256 == run.data.tags["sha256"]
    assert json.loads(dataset.dataset.source) == {"source": "sample"}
    assert run.data.tags["sha256.demand"] == table_sha256(usage.demand)
    assert run.data.params["seed"] == "7"
    assert run.data.params["source"] == "sample"
    assert len(usage.sha256) == len(hashlib.sha256().hexdigest())


def test_reading_before_any_import_says_what_makes_one(mlflow_store: Store):
    """An empty store is answered with the command that fills it."""
    with pytest.raises(NotFoundError, match="gangplan ingest"):
        telemetry.read_usage(mlflow_store)


def test_experiment_holds_one_finished_import(sample_store: Store):
    """One import is one run."""
    assert len(sample_store.runs(TELEMETRY, {"kind": "import"}, limit=10)) == 1
