"""Each training of the minutes' model is an MLflow run with all that a reader needs; it is asked again while fresh."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import InputError
from gangplan.forecast.outlook import minutes, minutes_runs
from gangplan.tracking import FORECAST, Store, table_sha256
from gangplan.types import Usage

from .conftest import CHAT, a_usage, some_settings, waves
from .test_minutes import serving

STEP = timedelta(minutes=15)
ASKED = forecast.MinuteRequest(of="requests", step=STEP, ahead=4)


@pytest.fixture
def usage() -> Usage:
    """A telemetry that ends where the fine table ends."""
    return a_usage({CHAT: waves(24 * 5)})


def a_table(end_of: Usage, days: int = 5) -> pl.DataFrame:
    """MinutePanel demand of one series up to a telemetry's end."""
    values = serving(days)[::3][: days * 96].astype(np.float64)
    times = [end_of.end - (values.size - place) * STEP for place in range(values.size)]
    names = dict(zip(("tenant", "workload_class", "accelerator"), CHAT, strict=True))
    return pl.DataFrame({"time": times, "value": values}).with_columns(**{k: pl.lit(v) for k, v in names.items()})


def test_training_is_a_run_and_its_trees_are_asked_while_fresh(
    usage: Usage, mlflow_store: Store, tmp_path: Path
) -> None:
    """Data hash, parameters, back-test beside the last value and trees are there; a later hour asks them again."""
    settings, table = some_settings(tmp_path), a_table(usage)
    first = forecast.forecast_minutes(table, ASKED, usage, mlflow_store, settings=settings)
    (run,) = mlflow_store.runs(FORECAST, {"kind": "minutes"}, limit=9)
    assert first.learned
    assert run.info.run_id == first.run_id
    assert run.data.params["steps_ahead"] == "4"
    assert 0 < run.data.metrics["wql"] < 1.2 * run.data.metrics["last_value_wql"]
    assert 0.5 < run.data.metrics["coverage_80"] <= 1
    (data,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in data.tags}["sha256"] == table_sha256(table)
    model = minutes_runs.read_model(mlflow_store, first.run_id)
    again = model.quantiles(minutes.from_table(table, STEP, usage.end), 4)
    assert again == pytest.approx(first.table.select("^q0.*$").to_numpy().reshape(again.shape))

    later = replace(usage, end=usage.end + timedelta(hours=1))
    asked = forecast.forecast_minutes(table, ASKED, later, mlflow_store, settings=settings)
    assert (asked.learned, asked.run_id) == (False, first.run_id)
    assert asked.table["time"].min() == later.end


def test_what_differs_or_is_a_day_old_is_learned_anew(usage: Usage, mlflow_store: Store, tmp_path: Path) -> None:
    """Another measure or source, or telemetry of a day later (or earlier), does not ask the trees that are there."""
    settings, table = some_settings(tmp_path), a_table(usage)
    forecast.forecast_minutes(table, ASKED, usage, mlflow_store, settings=settings)
    for asked, seen in (
        (replace(ASKED, of="gpus"), usage),
        (ASKED, replace(usage, source="elsewhere")),
        (ASKED, replace(usage, end=usage.end + timedelta(days=1))),
        (ASKED, replace(usage, end=usage.end - timedelta(hours=2))),
    ):
        assert forecast.forecast_minutes(table, asked, seen, mlflow_store, settings=settings).learned


def test_short_past_is_kept_without_a_back_test_and_too_short_a_one_leaves_no_run(
    usage: Usage, mlflow_store: Store, tmp_path: Path
) -> None:
    """Two days give a run without figures; less than six hours an error, and no run."""
    settings, table = some_settings(tmp_path), a_table(usage, days=2)
    with pytest.raises(InputError, match="six hours"):
        forecast.forecast_minutes(table.tail(8), ASKED, usage, mlflow_store, settings=settings)
    assert mlflow_store.runs(FORECAST, {"kind": "minutes"}) == []
    made = forecast.forecast_minutes(table, ASKED, usage, mlflow_store, settings=settings)
    assert mlflow_store.client.get_run(made.run_id).data.metrics == {}
    assert made.table.height == 4
