"""Feedback in MLflow: read back as it was learned, and the same evidence counted once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.feedback.builders import a_forecast, a_plan, an_outcome

from gangplan import feedback
from gangplan.clock import Clock
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import FEEDBACK, Store
from gangplan.types import Score


def a_score(start: datetime, shift: float = 1.0, count: int = 168) -> Score:
    """Score a span of the small world."""
    outcome = an_outcome(start=start, shift=shift, count=count)
    return feedback.score(a_plan(start=start), a_forecast(start=start), outcome)


def test_nothing_learned_reads_as_none(mlflow_store: Store) -> None:
    """Before the first feedback there are neither beliefs nor a score."""
    assert feedback.read_beliefs(mlflow_store) is None
    assert feedback.read_score(mlflow_store) is None


def test_what_was_learned_is_read_back(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """Score and beliefs come back from MLflow as they were, in another store object, with nothing else at hand."""
    score = replace(a_score(start, 1.3), mean_wait_s=12.5)
    beliefs = feedback.learn(score, mlflow_store, clock=clock)
    other = Store(uri=mlflow_store.uri)
    read, believed = feedback.read_score(other), feedback.read_beliefs(other)
    assert read is not None
    assert believed is not None
    assert_frame_equal(read.by_series, score.by_series)
    assert_frame_equal(believed.corrections, beliefs.corrections)
    assert_frame_equal(read.compared, score.compared)
    assert replace(read, by_series=score.by_series, compared=score.compared) == score
    assert (believed.run_id, believed.made_at) == (beliefs.run_id, clock())


def test_the_same_score_counts_once(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """Learning twice from the same span gives the same run back and logs no second one."""
    first, second = (feedback.learn(a_score(start, 1.3), mlflow_store, clock=clock) for _ in range(2))
    assert first.run_id == second.run_id
    assert_frame_equal(first.corrections, second.corrections)
    assert len(mlflow_store.runs(FEEDBACK, limit=10)) == 1


def test_overlapping_spans_count_once(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """A replay an hour later takes the place of the one before instead of adding to it."""
    alone = [feedback.learn(a_score(start, 1.3), mlflow_store, clock=clock)]
    alone += [
        feedback.learn(a_score(start + timedelta(hours=hour), 1.3), mlflow_store, clock=clock) for hour in (1, 2, 3)
    ]
    levels = [one.corrections["level"].to_list() for one in alone]
    for later in levels[1:]:
        assert later == pytest.approx(levels[0], rel=0.03)
    assert max(alone[-1].corrections["hours"]) == 168


def test_a_later_span_builds_on_the_earlier(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """Two weeks stand behind a belief with the hours of both, the older ones faded."""
    feedback.learn(a_score(start, 1.3), mlflow_store, clock=clock)
    beliefs = feedback.learn(a_score(start + timedelta(days=7), 1.3), mlflow_store, clock=clock)
    assert beliefs.corrections["hours"].to_list() == [round(168 + 168 * 0.5**0.5)] * 3


def test_a_failed_run_is_not_believed(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """A run that broke off half-way is never read."""
    with pytest.raises(RuntimeError), mlflow_store.run(FEEDBACK, "half", {"kind": "score"}):
        raise RuntimeError
    assert feedback.read_beliefs(mlflow_store) is None
    feedback.learn(a_score(start), mlflow_store, clock=clock)
    assert feedback.read_beliefs(mlflow_store) is not None


def test_days_move_the_beliefs_once_in_a_week(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """Six daily scores move nothing; the seventh moves the beliefs as one score of the whole week does."""
    days = [start + timedelta(days=day) for day in range(7)]
    daily = [feedback.learn(a_score(day, 1.3, 24), mlflow_store, clock=clock) for day in days]
    assert [beliefs.corrections.is_empty() for beliefs in daily] == [True] * 6 + [False]
    assert daily[-1].corrections["level"].to_list() == pytest.approx([1.3] * 3, rel=0.05)
    assert daily[-1].corrections["hours"].to_list() == [168] * 3
    after = feedback.learn(a_score(start + timedelta(days=7), 1.3, 24), mlflow_store, clock=clock)
    assert_frame_equal(after.corrections, daily[-1].corrections)


def test_days_that_overlap_count_each_hour_once(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """A score of 25 hours each day gives a week of 169 hours at the most, then the next week."""
    scores = [a_score(start + timedelta(days=day), 1.3, 25) for day in range(15)]
    hours = [feedback.learn(score, mlflow_store, clock=clock).corrections["hours"].to_list() for score in scores]
    assert hours[5] == []
    assert hours[6] == [168] * 3
    assert hours[12] == hours[6]
    assert hours[14] == [round(168 + 168 * 0.5**0.5)] * 3


def test_one_bad_day_moves_a_level_little(start: datetime, mlflow_store: Store, clock: Clock) -> None:
    """A day that was counted five times leaves every level below 1.3; scored by itself it made 2."""
    for day in range(7):
        beliefs = feedback.learn(
            a_score(start + timedelta(days=day), 5.0 if day == 3 else 1.0, 24), mlflow_store, clock=clock
        )
    assert beliefs.corrections["level"].max() < 1.3


def test_a_corrected_forecast_within_the_week_counts_at_its_own_level(
    start: datetime, mlflow_store: Store, clock: Clock
) -> None:
    """Where the corrections changed within a week, each hour's error is held against the level that it had."""
    first = feedback.learn(a_score(start, 1.4), mlflow_store, clock=clock)
    held = dict(first.corrections.select("tenant", "level").iter_rows())
    for day in range(7, 14):
        score = a_score(start + timedelta(days=day), 1.4, 24)
        if day > 7:  # the first day's forecast was made before the correction
            level = pl.col("tenant").replace_strict(held, return_dtype=pl.Float64)
            score = replace(
                score,
                compared=score.compared.with_columns(pl.col(QUANTILE_COLUMNS) * level),
                corrected_by=first.run_id,
            )
        beliefs = feedback.learn(score, mlflow_store, clock=clock)
    assert beliefs.corrections["level"].to_list() == pytest.approx([1.4] * 3, rel=0.07)
