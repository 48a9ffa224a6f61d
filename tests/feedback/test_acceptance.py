"""What really happened corrects the next forecast: shown on hours that the correction has not seen."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
from tests.feedback.builders import a_forecast, a_plan, an_outcome

from gangplan import feedback
from gangplan.clock import Clock
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import Store
from gangplan.types import QUANTILES, SERIES, Beliefs, Forecast, Outcome

WEEK = timedelta(days=7)


def corrected(forecast: Forecast, beliefs: Beliefs) -> pl.DataFrame:
    """Apply corrections as tables.CORRECTIONS says: level on all, width on the distance from the median."""
    joined = forecast.quantiles.join(beliefs.corrections, on=SERIES, how="left")
    middle = pl.col("q0.5")
    moved = [pl.col("level") * (middle + pl.col("width") * (pl.col(name) - middle)) for name in QUANTILE_COLUMNS]
    return joined.with_columns([value.alias(name) for value, name in zip(moved, QUANTILE_COLUMNS, strict=True)])


def pinball(quantiles: pl.DataFrame, outcome: Outcome) -> float:
    """The mean pinball loss over all levels, written apart from the code under test."""
    total = 0.0
    rows = quantiles.join(outcome.demand, on=["hour", *SERIES]).to_dicts()
    for row in rows:
        for level, name in zip(QUANTILES, QUANTILE_COLUMNS, strict=True):
            miss = row["gpus"] - row[name]
            total += level * miss if miss >= 0 else (level - 1) * miss
    return total / len(rows) / len(QUANTILES)


@pytest.mark.parametrize("shift", [0.7, 1.25, 1.6])
def test_a_level_shift_is_corrected_on_fresh_data(
    shift: float,
    start: datetime,
    mlflow_store: Store,
    clock: Clock,
) -> None:
    """After a week at another level, the corrected forecast of the next week has less than two thirds of the loss."""
    score = feedback.score(a_plan(), a_forecast(), an_outcome(shift=shift))
    beliefs = feedback.learn(score, mlflow_store, clock=clock)
    fresh = an_outcome(start=start + WEEK, shift=shift, seed=2)
    ahead = a_forecast(start=start + WEEK)
    assert pinball(corrected(ahead, beliefs), fresh) < 0.66 * pinball(ahead.quantiles, fresh)


@pytest.mark.parametrize("seed", range(3))
def test_a_true_forecast_is_left_alone(seed: int, mlflow_store: Store, clock: Clock) -> None:
    """With no error but chance, every level stays within 2 % of 1 and every width within 15 %."""
    score = feedback.score(a_plan(), a_forecast(), an_outcome(seed=seed))
    corrections = feedback.learn(score, mlflow_store, clock=clock).corrections
    assert corrections["level"].is_between(0.98, 1.02).all(), corrections
    assert corrections["width"].is_between(0.85, 1.15).all(), corrections


@pytest.mark.parametrize("told", [0.5, 2.0])
def test_a_wrong_width_is_corrected_on_fresh_data(
    told: float,
    start: datetime,
    mlflow_store: Store,
    clock: Clock,
) -> None:
    """A fan half or twice as wide as the world is brought towards it, and loses less on the next week."""
    score = feedback.score(a_plan(), a_forecast(spread=0.12 * told), an_outcome())
    beliefs = feedback.learn(score, mlflow_store, clock=clock)
    fresh, ahead = an_outcome(start=start + WEEK, seed=2), a_forecast(start=start + WEEK, spread=0.12 * told)
    assert pinball(corrected(ahead, beliefs), fresh) < pinball(ahead.quantiles, fresh)


def test_a_correction_is_kept_when_the_corrected_forecast_is_right(
    start: datetime, mlflow_store: Store, clock: Clock
) -> None:
    """Week after week at 1.4 times the level, the correction stays near 1.4: it neither runs away nor swings back."""
    beliefs: Beliefs | None = None
    for week in range(3):
        monday = start + week * WEEK
        ahead = a_forecast(start=monday)
        if beliefs is not None:
            ahead = Forecast(
                issued_at=monday, model="m", quantiles=corrected(ahead, beliefs), corrected_by=beliefs.run_id
            )
        score = feedback.score(a_plan(start=monday), ahead, an_outcome(start=monday, shift=1.4, seed=week))
        beliefs = feedback.learn(score, mlflow_store, clock=clock)
        assert beliefs.corrections["level"].is_between(1.33, 1.45).all(), (week, beliefs.corrections)


def test_a_past_shift_is_forgotten(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """When the level goes back, the next week takes the correction back to within 5 % of 1."""
    shifted = feedback.score(a_plan(), a_forecast(), an_outcome(shift=1.5))
    feedback.learn(shifted, mlflow_store, clock=clock)
    monday = start + WEEK
    back = feedback.score(a_plan(start=monday), a_forecast(start=monday), an_outcome(start=monday, seed=3))
    beliefs = feedback.learn(back, mlflow_store, clock=clock)
    assert beliefs.corrections["level"].is_between(0.95, 1.05).all(), beliefs.corrections
