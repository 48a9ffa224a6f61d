"""Series that cannot be learned fall back with a clear word, and never stop the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import InputError
from gangplan.forecast.evaluation import backtest, trial
from gangplan.forecast.models import demand
from gangplan.forecast.series.panel import from_tables, from_usage
from gangplan.progress import no_progress
from gangplan.tables import DEMAND, EVENTS, QUANTILE_COLUMNS, conform, empty
from gangplan.tracking import FORECAST, Store
from gangplan.types import Usage

from .conftest import BATCH, CHAT, END, Row, a_demand, a_usage, some_settings, usage_of, waves

HOURS = 700


def nothing_but_the_end(values: np.ndarray) -> np.ndarray:
    """A series that begins late."""
    return np.concatenate([np.full(HOURS - values.size, np.nan), values])


def holed() -> np.ndarray:
    """A series with an outage and single missing hours, one of them the last."""
    row = waves(HOURS, seed=9)
    row[200:260] = np.nan
    row[::37] = np.nan
    row[-1] = np.nan
    return row


def vanished() -> np.ndarray:
    """A series without a sample for ten days."""
    row = waves(HOURS, seed=8)
    row[-240:] = np.nan
    return row


CASES: dict[str, tuple[np.ndarray, str]] = {
    "too short": (nothing_but_the_end(waves(100)), "100 h of history, 240 are needed"),
    "one sample": (nothing_but_the_end(np.array([7.0])), "1 h of history, 240 are needed"),
    "constant": (np.full(HOURS, 16.0), "constant at 16 GPUs"),
    "all zero": (np.zeros(HOURS), "no demand in any hour"),
    "vanished": (vanished(), "vanished, no sample for 240 h"),
    "never seen": (np.full(HOURS, np.nan), "vanished, no sample for 700 h"),
    "with gaps": (holed(), ""),
}
ODD: Row = ("odd", "throughput", "a100")


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    """The forecast of the sound series when nothing else is there."""
    panel = from_usage(a_usage({CHAT: waves(HOURS)}))
    return demand.fit(panel, 48, seed=7).quantiles(panel, 48)[0][0]


@pytest.mark.parametrize("case", CASES)
def test_odd_series_is_named_and_the_others_go_on(case: str, alone: np.ndarray) -> None:
    """The word says what is wrong, all quantiles are numbers, and the sound series is forecast as well as alone."""
    values, word = CASES[case]
    panel = from_usage(a_usage({CHAT: waves(HOURS), ODD: values}))
    fitted = demand.fit(panel, 48, seed=7)
    made, status = fitted.quantiles(panel, 48)
    odd = status[panel.keys.index(ODD)]
    assert odd.problem.startswith(word) if word else not odd.problem
    assert np.isfinite(made).all()
    assert (made >= 0).all()
    if word:
        assert np.array_equal(made[panel.keys.index(CHAT)], alone)


def test_short_series_has_wide_intervals() -> None:
    """With one sample the median repeats it and the band is wide."""
    panel = from_usage(a_usage({CHAT: waves(HOURS), ODD: CASES["one sample"][0]}))
    made = demand.fit(panel, 48, seed=7).quantiles(panel, 48)[0][panel.keys.index(ODD)]
    assert made[:, 1] == pytest.approx(7.0)
    assert (made[:, 0] <= 0.5 * made[:, 1]).all()
    assert (made[:, 3] >= 2 * made[:, 1]).all()


def test_constant_zero_and_vanished_series_are_repeated() -> None:
    """A constant stays, nothing stays nothing, and what vanished is forecast as 0."""
    wanted = {"constant": 16.0, "all zero": 0.0, "vanished": 0.0}
    for case, value in wanted.items():
        panel = from_usage(a_usage({CHAT: waves(HOURS), ODD: CASES[case][0]}))
        made = demand.DemandModel(trees=(), kinds=(), fitted_until="").quantiles(panel, 24)[0]
        assert np.all(made[panel.keys.index(ODD)] == value), case


def test_missing_hours_are_kept_out_of_training() -> None:
    """No training row has a missing origin or target."""
    panel = from_usage(a_usage({CHAT: holed()}))
    series, origin, steps = demand._training_rows(panel, 48)
    assert series.size > 1000
    assert np.isfinite(panel.values[series, origin]).all()
    assert np.isfinite(panel.values[series, origin + steps]).all()
    full = demand._training_rows(from_usage(a_usage({CHAT: waves(HOURS)})), 48)[0]
    assert series.size < full.size


def test_nan_infinite_and_negative_hours_become_missing_with_a_note() -> None:
    """What is no demand is taken as missing, counted, and said."""
    demand = a_demand({CHAT: waves(HOURS)})
    bad = pl.Series([-5.0, float("inf"), float("nan"), float("-inf")])
    places = [10, 20, 30, 40]
    values = demand["gpus"].scatter(places, bad)
    panel = from_usage(usage_of(demand.with_columns(gpus=values)))
    assert np.flatnonzero(np.isnan(panel.values[0])).tolist() == places
    assert panel.notes == ("4 hours are negative or not a number: taken as missing",)


def test_shuffled_and_duplicated_rows_make_the_same_panel() -> None:
    """Order does not matter; of an hour that stands twice the mean is taken, and it is said."""
    demand = a_demand({CHAT: waves(HOURS), BATCH: waves(HOURS, seed=3)})
    plain = from_usage(usage_of(demand))
    mixed = from_usage(usage_of(pl.concat([demand, demand.head(5)]).sample(fraction=1, shuffle=True, seed=1)))
    assert mixed.keys == plain.keys
    assert np.allclose(mixed.values, plain.values)
    assert mixed.notes == ("5 hours stand twice: their mean is taken",)


def test_clock_change_loses_no_hour_of_stamps_with_a_zone() -> None:
    """Local stamps that carry their zone name 23 and 25 hours of a day: the panel has each of them, and no note."""
    demand = a_demand({CHAT: waves(HOURS)}, END)
    for change in (datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2025, 10, 26, 12, tzinfo=UTC)):
        moved = demand.with_columns(pl.col("hour") + (change - END))
        local = moved.with_columns(pl.col("hour").dt.convert_time_zone("Europe/Berlin"))
        panel = from_tables(local, None, end=change)
        assert panel.notes == ()
        assert panel.values == pytest.approx(from_tables(moved, None, end=change).values)


def test_clock_change_of_stamps_without_a_zone_is_a_gap_or_a_double_hour() -> None:
    """Local stamps taken for UTC miss an hour in spring; in autumn one stands twice, and it is said. All goes on."""
    table = a_demand({CHAT: waves(HOURS), BATCH: waves(HOURS, seed=3)}, END)
    night = END - timedelta(days=5)
    after = pl.col("hour") >= night
    spring = table.with_columns(pl.when(after).then(pl.col("hour") + timedelta(hours=1)).otherwise(pl.col("hour")))
    autumn = table.with_columns(pl.when(after).then(pl.col("hour") - timedelta(hours=1)).otherwise(pl.col("hour")))
    gap = from_tables(spring, None, end=END + timedelta(hours=1))
    assert np.flatnonzero(np.isnan(gap.values[0])).tolist() == [HOURS - 5 * 24]
    double = from_tables(autumn, None, end=END - timedelta(hours=1))
    assert double.notes == ("2 hours stand twice: their mean is taken",)
    for panel in (gap, double):
        made, status = demand.fit(panel, 24, seed=7).quantiles(panel, 24)
        assert all(not series.problem for series in status)
        assert np.isfinite(made).all()


def test_rows_after_the_end_are_not_read() -> None:
    """Demand dated after the telemetry's end plays no part."""
    demand = a_demand({CHAT: waves(HOURS)})
    early = usage_of(demand, end=END - timedelta(hours=10))
    assert from_usage(early).hours == HOURS - 10


def test_training_says_what_it_could_not_learn(mlflow_store: Store, tmp_path: Path) -> None:
    """A training with hardly any history falls back to naive members alone, says so, and can be forecast with."""
    usage = a_usage({CHAT: waves(60), BATCH: np.zeros(60)})
    settings = some_settings(tmp_path)
    training = forecast.retrain(usage, mlflow_store, settings=settings, clock=lambda: END)
    assert any("60 h of history, 240 are needed" in note for note in training.notes)
    assert any("no trees were fitted" in note for note in training.notes)
    made = forecast.predict(usage, mlflow_store, None, settings=settings)
    assert made.quantiles.select(pl.all_horizontal(pl.col(QUANTILE_COLUMNS).is_finite().all())).item()


NO_HOUR = empty(DEMAND)
ALL_NULL = a_demand({CHAT: np.full(100, np.nan)})


@pytest.mark.parametrize("demand", [NO_HOUR, ALL_NULL], ids=["no row", "all missing"])
def test_telemetry_without_a_usable_hour_is_refused(demand: pl.DataFrame, mlflow_store: Store, tmp_path: Path) -> None:
    """Nothing to learn from is an input error with a remedy, and no run is begun."""
    usage = Usage(**{**vars(a_usage({CHAT: waves(50)})), "demand": demand})
    with pytest.raises(InputError, match=r"no usable hour.*gangplan ingest"):
        forecast.retrain(usage, mlflow_store, settings=some_settings(tmp_path), clock=lambda: END)
    assert mlflow_store.client.get_experiment_by_name(FORECAST) is None


def test_many_series_are_thinned_to_the_row_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """More series than rows allow are trained on fewer origins, every series still there."""
    panel = from_usage(a_usage({(f"t{n}", "cost", "l4"): waves(400, seed=n) for n in range(6)}))
    monkeypatch.setattr(demand, "MAX_ROWS", 20_000)
    series, origin, _ = demand._training_rows(panel, 48)
    assert set(series) == set(range(6))
    assert series.size <= 20_000
    assert len(set(origin % 24)) == 24


def test_events_of_odd_kinds_do_no_harm(tmp_path: Path) -> None:
    """Events that end before they start, lie outside the span or have odd names leave a forecast of numbers."""
    rows = [
        (END, END - timedelta(hours=3), "back {to} [front]", None),
        (END - timedelta(days=4000), END - timedelta(days=3999), "long ago: ü", "nobody"),
        (END + timedelta(days=900), END + timedelta(days=901), "", None),
    ]
    events = conform("events", pl.DataFrame(rows, schema=EVENTS, orient="row"), EVENTS)
    found = trial.run_trial(
        from_usage(a_usage({CHAT: waves(500)}, events=events)), some_settings(tmp_path), no_progress
    )
    assert np.isfinite(found.quality.wql)
    assert backtest.steps_ahead(found.table).max() == 48
