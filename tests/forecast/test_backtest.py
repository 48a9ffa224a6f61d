"""The back-test is honest: nothing of it, and nothing of the fit behind it, has seen what it is scored on."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gangplan.errors import InputError
from gangplan.forecast.evaluation import backtest, trial
from gangplan.forecast.evaluation.compare import mase, quality
from gangplan.forecast.models import demand
from gangplan.forecast.models.features import CORRECTIONS
from gangplan.forecast.series.panel import from_usage
from gangplan.progress import no_progress
from gangplan.tables import BACKTEST, QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES

from .conftest import CHAT, END, TRAIN, a_usage, some_settings, three_series, waves


def test_another_future_leaves_the_backtest_forecast_as_it_was(tmp_path) -> None:
    """What comes after the first origin changes neither the fit nor that origin's forecast, nor naive's."""
    series = three_series(600)
    panel = from_usage(a_usage(series))
    settings = some_settings(tmp_path)
    window = backtest.choose_window(panel, 48, 3)
    other = {
        key: np.concatenate([row[: window.origins[0]], 5 * row[window.origins[0] :]]) for key, row in series.items()
    }
    tables = [trial.run_trial(from_usage(a_usage(one)), settings, no_progress) for one in (series, other)]
    first = [one.table.filter(pl.col("origin") == pl.col("origin").min()) for one in tables]
    made = [*SERIES, "hour", *QUANTILE_COLUMNS, "naive"]
    assert first[0].select(made).equals(first[1].select(made))
    assert not first[0]["gpus"].equals(first[1]["gpus"])


def test_fit_knows_nothing_after_its_end() -> None:
    """A fit on the past is byte for byte the fit on the same past of another future."""
    series = {CHAT: waves(500)}
    panel = from_usage(a_usage(series))
    changed = from_usage(a_usage({CHAT: np.concatenate([series[CHAT][:400], np.full(100, 999.0)])}))
    fits = [demand.fit(one.until(400), 24, seed=7) for one in (panel, changed)]
    assert [tree.text for tree in fits[0].trees] == [tree.text for tree in fits[1].trees]
    assert len(fits[0].trees) == len(CORRECTIONS) * len(QUANTILES)


def test_naive_is_the_same_hour_last_week_and_yesterday_where_history_is_short() -> None:
    """The baseline repeats last week; a series of three days repeats yesterday."""
    long, short = waves(600, seed=1), np.full(600, np.nan)
    short[-72:] = waves(72, seed=2)
    panel = from_usage(a_usage({CHAT: long, TRAIN: short}))
    window = backtest.Window(origins=(576,), horizon=24)
    table = backtest.run_naive(panel, window)
    of_long = table.filter(pl.col("tenant") == CHAT[0])["naive"]
    of_short = table.filter(pl.col("tenant") == TRAIN[0])["naive"]
    assert of_long.to_numpy() == pytest.approx(long[576 - 168 : 600 - 168])
    assert of_short.to_numpy() == pytest.approx(short[552:576])


@pytest.mark.parametrize(
    ("hours", "origins", "horizon"), [(2900, 7, 168), (816, 7, 168), (400, 4, 120), (100, 2, 24), (48, 1, 24)]
)
def test_window_fits_the_history(hours: int, origins: int, horizon: int) -> None:
    """A short history is tested on fewer origins and a shorter horizon, always ending at its end."""
    window = backtest.choose_window(from_usage(a_usage({CHAT: waves(hours)})), 168, 7)
    assert (len(window.origins), window.horizon) == (origins, horizon)
    assert window.origins[-1] + window.horizon == hours
    assert set(np.diff(window.origins)) <= {24}


def test_two_days_are_the_least() -> None:
    """Less than 48 hours is refused with what to do."""
    with pytest.raises(InputError, match=r"47 hours.*at least 48"):
        backtest.choose_window(from_usage(a_usage({CHAT: waves(47)})), 168, 7)


def a_table(rows: list[tuple[tuple[float, ...], float | None]]) -> pl.DataFrame:
    """A back-test of one series with these quantiles and what came."""
    origin = END - timedelta(hours=len(rows))
    made = [
        (origin, origin + timedelta(hours=place), *CHAT, *levels, 0.0, came)
        for place, (levels, came) in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=BACKTEST, orient="row")


def test_figures_by_hand() -> None:
    """WQL, coverage and the share under 0.95 are what the definitions give by hand; a missing hour does not count."""
    table = a_table([((8, 10, 12, 13, 14), 11), ((8, 10, 12, 13, 14), 20), ((8, 10, 12, 13, 14), None)])
    first = 0.1 * 3 + 0.5 * 1 + 0.1 * 1 + 0.05 * 2 + 0.01 * 3
    second = 0.1 * 12 + 0.5 * 10 + 0.9 * 8 + 0.95 * 7 + 0.99 * 6
    found = quality(table)
    assert found.wql == pytest.approx(100 * 2 * (first + second) / 10 / 15.5)
    assert (found.coverage_80, found.below_95, found.rows) == (0.5, 0.5, 2)
    scales = pl.DataFrame([(*CHAT, 2.0)], [*SERIES, "scale"], orient="row")
    assert mase(table, scales) == pytest.approx((1 + 10) / 2 / 2)


def test_no_demand_at_all_is_scored_without_dividing_by_it() -> None:
    """With nothing demanded and nothing forecast the loss is 0; with something forecast it is infinite."""
    assert quality(a_table([((0, 0, 0, 0, 0), 0)])).wql == 0
    assert quality(a_table([((0, 1, 2, 3, 4), 0)])).wql == float("inf")
