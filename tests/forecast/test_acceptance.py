"""What the forecast room promises the others: a training in MLflow, a champion, a forecast, a back-test to replay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import NotFoundError
from gangplan.tables import BACKTEST, CORRECTIONS, QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.tracking import FORECAST, MODEL, Store
from gangplan.types import SERIES, Beliefs

from .conftest import CHAT, END, Trained, a_usage, some_settings, three_series


def test_first_training_steers(trained: Trained) -> None:
    """The first model is promoted, with who, when and why in the registry."""
    assert trained.training.promoted
    champion = trained.store.client.get_model_version_by_alias(MODEL, "champion")
    assert str(champion.version) == trained.training.version
    assert champion.tags["promoted_by"]
    assert champion.tags["promoted_at"].startswith("2026-03-02T09")
    assert champion.tags["promoted_why"]


def test_training_beats_seasonal_naive_where_there_is_something_to_learn(trained: Trained) -> None:
    """On cycles with growth the back-test's loss is below seasonal naive's, and the 80 % band holds."""
    assert trained.training.wql < trained.training.naive_wql
    assert 0.6 <= trained.training.coverage_80 <= 0.97


def test_training_run_holds_everything_a_reviewer_needs(trained: Trained) -> None:
    """The run has parameters, data set with sha256, back-test table, metrics, plots and the model."""
    run = trained.store.client.get_run(trained.training.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == str(trained.settings.seed)
    assert run.inputs.dataset_inputs
    assert run.data.tags["sha256.usage"] == trained.usage.sha256
    assert {"wql", "wql_24", "mase", "coverage_80", "below_95", "naive_wql", f"wql.{'.'.join(CHAT)}"} <= set(
        run.data.metrics
    )
    plots = {file.path for file in trained.store.client.list_artifacts(trained.training.run_id, "plots")}
    assert plots == {"plots/fan.png", "plots/calibration.png", "plots/residuals.png", "plots/importance.png"}
    table = trained.store.read_table(trained.training.run_id, "backtest")
    assert table.schema == pl.Schema(BACKTEST)
    assert table.equals(trained.training.backtest)


def test_backtest_has_rolling_origins_a_day_apart(trained: Trained) -> None:
    """The origins are 24 h apart, the last one a horizon before the end, and every series is in each."""
    table = trained.training.backtest
    origins = sorted(table["origin"].unique())
    last = END - timedelta(hours=trained.settings.horizon_hours)
    assert origins == [last - timedelta(days=days) for days in (2, 1, 0)]
    assert table.height == 3 * 3 * trained.settings.horizon_hours
    assert (table["hour"] >= table["origin"]).all()


def test_predict_covers_the_horizon_with_sorted_quantiles(trained: Trained) -> None:
    """The forecast has each series in each hour from the end of the telemetry on, sorted and never below zero."""
    made = forecast.predict(trained.usage, trained.store, None, settings=trained.settings)
    assert made.issued_at == END
    assert made.model == f"{MODEL}/{trained.training.version}"
    assert made.quantiles.schema == pl.Schema(QUANTILE_TABLE)
    hours = sorted(made.quantiles["hour"].unique())
    assert hours == [END + timedelta(hours=step) for step in range(trained.settings.horizon_hours)]
    assert made.quantiles.height == 3 * len(hours)
    rows = made.quantiles.select(QUANTILE_COLUMNS).to_numpy()
    assert (rows >= 0).all()
    assert (rows[:, 1:] >= rows[:, :-1]).all()


def test_beliefs_correct_the_forecast(trained: Trained) -> None:
    """A level multiplies every quantile, a width multiplies the distance from the median, others stay."""
    rows = [(*CHAT, 1.5, 2.0, 24)]
    corrections = conform("beliefs", pl.DataFrame(rows, schema=list(CORRECTIONS), orient="row"), CORRECTIONS)
    beliefs = Beliefs(made_at=END, corrections=corrections, run_id="abc")
    plain = forecast.predict(trained.usage, trained.store, None, settings=trained.settings)
    held = forecast.predict(trained.usage, trained.store, beliefs, settings=trained.settings)
    assert held.corrected_by == "abc"
    both = plain.quantiles.join(held.quantiles, on=["hour", *SERIES], suffix="_held", validate="1:1")
    chat = both.filter(pl.col("tenant") == CHAT[0])
    others = both.filter(pl.col("tenant") != CHAT[0])
    median, upper = chat["q0.5"], chat["q0.95"]
    assert (chat["q0.5_held"] - 1.5 * median).abs().max() == pytest.approx(0, abs=1e-9)
    assert (chat["q0.95_held"] - 1.5 * (median + 2 * (upper - median))).abs().max() == pytest.approx(0, abs=1e-9)
    for column in QUANTILE_COLUMNS:
        assert (others[column] - others[f"{column}_held"]).abs().max() == 0


def test_backtest_forecast_is_the_last_origin(trained: Trained) -> None:
    """What can be replayed is the champion's out-of-sample forecast of its last rolling origin."""
    made = forecast.backtest_forecast(trained.store)
    assert made.issued_at == END - timedelta(hours=trained.settings.horizon_hours)
    wanted = trained.training.backtest.filter(pl.col("origin") == made.issued_at)
    assert made.quantiles.equals(wanted.select(list(QUANTILE_TABLE)))
    assert made.run_id == trained.training.run_id


def test_read_training_gives_back_what_was_trained(trained: Trained) -> None:
    """Another process reads the same training from the store."""
    found = forecast.read_training(trained.store)
    assert (found.run_id, found.version, found.wql, found.promoted, found.reason, found.notes) == (
        trained.training.run_id,
        trained.training.version,
        trained.training.wql,
        True,
        trained.training.reason,
        trained.training.notes,
    )
    assert found.backtest.equals(trained.training.backtest)


def test_same_data_and_seed_give_the_same_predictions(trained_copy: Trained, ticking: Callable[[], datetime]) -> None:
    """A second training on the same data has the same back-test and forecast, and passes the gate."""
    before = forecast.predict(trained_copy.usage, trained_copy.store, None, settings=trained_copy.settings)
    again = forecast.retrain(trained_copy.usage, trained_copy.store, settings=trained_copy.settings, clock=ticking)
    after = forecast.predict(trained_copy.usage, trained_copy.store, None, settings=trained_copy.settings)
    assert again.backtest.equals(trained_copy.training.backtest)
    assert again.promoted, again.reason
    assert after.model == f"{MODEL}/{again.version}" != before.model
    assert after.quantiles.equals(before.quantiles)


def test_without_a_champion_the_way_to_one_is_named(mlflow_store: Store) -> None:
    """Asking an empty registry says what makes a model."""
    usage = a_usage(three_series(200))
    with pytest.raises(NotFoundError, match="gangplan train"):
        forecast.predict(usage, mlflow_store, None, settings=some_settings(usage_home(mlflow_store)))
    with pytest.raises(NotFoundError, match="gangplan train"):
        forecast.read_training(mlflow_store)
    with pytest.raises(NotFoundError, match="gangplan train"):
        forecast.backtest_forecast(mlflow_store)
    assert mlflow_store.runs(FORECAST) == []


def usage_home(store: Store):
    """The folder beside a store."""
    assert store.folder is not None
    return store.folder.parent
