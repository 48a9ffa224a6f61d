"""The watch says fine of a sound champion, retrain when demand behaves anew, inputs changed when telemetry does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.forecast.evaluation import backtest
from gangplan.forecast.models import demand
from gangplan.forecast.registry import audit_log, model_versions
from gangplan.forecast.registry.audit_log import Action
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.forecast.watch.health import DriftVerdict, Health, Line, judge, watch_drift
from gangplan.tracking import FORECAST, Store
from gangplan.types import Usage

from .conftest import BATCH, CHAT, END, TRAIN, Trained, a_usage, some_settings, three_series, waves

HOURS, LATE = 1500, 240  # the model was fitted ten days before the end


def world(seed: int = 1) -> Panel:
    """Three sound series."""
    rows = {key: waves(HOURS, level=40, seed=seed + place) for place, key in enumerate((CHAT, TRAIN, BATCH))}
    return from_usage(a_usage(rows))


@pytest.fixture(scope="module")
def fitted() -> tuple[Line, pl.DataFrame]:
    """A line of one champion, fitted ten days before the end of `world()`, and its back-test."""
    known = world().until(HOURS - LATE)
    window = backtest.choose_window(known, 48, 7)
    tested = demand.fit(known.until(window.origins[0]), 48, seed=7)
    return (("1", demand.fit(known, 48, seed=7)),), backtest.run_backtest(tested, known, window)


def changed(panel: Panel, values: np.ndarray) -> Panel:
    """The panel with other values of the first series."""
    made = panel.values.copy()
    made[panel.keys.index(CHAT)] = values
    return replace(panel, values=made)


def test_sound_champion_is_fine(fitted: tuple[Line, pl.DataFrame]) -> None:
    """Where demand goes on as it was, the verdict is fine, over all days since the fit."""
    found = judge(world(), *fitted, version="1")
    assert (found.verdict, found.days) == (DriftVerdict.FINE, LATE // 24)
    assert {one.key for one in found.series} == {CHAT, TRAIN, BATCH}


def test_level_that_never_was_is_changed_inputs_with_series_and_feature(
    fitted: tuple[Line, pl.DataFrame],
) -> None:
    """Demand that jumps about as never before: inputs changed, with that series and a feature of the trees."""
    panel = world()
    values = panel.values[panel.keys.index(CHAT)].copy()
    values[-LATE:] *= np.random.default_rng(3).lognormal(0, 0.8, LATE)
    found = judge(changed(panel, values), *fitted, version="1")
    assert found.verdict is DriftVerdict.INPUTS
    assert "language / latency / h100" in found.reason
    assert "vision" not in found.reason
    assert any(one.key == CHAT and one.feature in found.reason for one in found.changed)


def test_same_inputs_with_other_consequences_ask_for_retraining(fitted: tuple[Line, pl.DataFrame]) -> None:
    """A model whose answers are off while its features look as ever: retrain."""
    line, promised = fitted
    honest = promised.with_columns(
        pl.col(f"q{level:g}") * 0 + pl.col("gpus") * 1.002 for level in (0.1, 0.5, 0.9, 0.95, 0.99)
    )
    found = judge(world(), line, honest, version="1")
    assert found.verdict is DriftVerdict.RETRAIN
    assert "gangplan train" in found.reason


def test_broken_collector_is_named(fitted: tuple[Line, pl.DataFrame]) -> None:
    """A series of which a third is missing of late is among what changed."""
    panel = world()
    values = panel.values[panel.keys.index(CHAT)].copy()
    values[-LATE::3] = np.nan
    found = judge(changed(panel, values), *fitted, version="1")
    assert (CHAT, "missing hours") in {(one.key, one.feature) for one in found.changed}


def test_new_and_vanished_series_are_named(fitted: tuple[Line, pl.DataFrame]) -> None:
    """A series that the back-test did not have, and one that is gone."""
    panel = world()
    keys = (("newcomer", "cost", "l4"), *panel.keys[1:])
    found = judge(replace(panel, keys=keys), *fitted, version="1")
    assert {one.feature for one in found.changed if one.key in (keys[0], panel.keys[0])} >= {
        "new series",
        "series gone",
    }


def test_young_champion_is_not_judged(trained: Trained) -> None:
    """Right after the training there is nothing to judge by, and that is said."""
    found = forecast.watch_drift(trained.usage, trained.store, settings=trained.settings)
    assert found.verdict is DriftVerdict.YOUNG
    assert "0 whole days" in found.reason
    assert watch_drift is forecast.watch_drift


def test_each_day_is_judged_by_the_champion_that_there_was(fitted: tuple[Line, pl.DataFrame]) -> None:
    """A line that is trained anew again and again is judged over all its days; none is asked of a day it saw."""
    line, promised = fitted
    panel = world()
    alone = judge(panel, line, promised, version="1")
    oldest, early = line[0][1], (HOURS - LATE + 96, HOURS)  # a second champion four days later, a third tonight
    later = [replace(oldest, trees=(), fitted_until=panel.until(hours).end.isoformat()) for hours in early]
    nightly = (*line, ("2", later[0]), ("3", later[1]))
    found = judge(panel, nightly, promised, version="3")
    assert (found.days, found.version, found.promised_by) == (10, "3", "1")
    assert found.verdict is not DriftVerdict.YOUNG
    # The second, which knows nothing but naive forecasts, speaks for the last six days; the third for none.
    only_two = judge(panel, nightly[:2], promised, version="2")
    assert [one.wql for one in found.series] == [one.wql for one in only_two.series]
    assert all(a.wql > b.wql for a, b in zip(found.series, alone.series, strict=True))


def test_a_model_trained_every_night_is_watched(trained_copy: Trained) -> None:
    """With a champion fitted at this very end, the days are held against what the first of the line promised."""
    store, days = trained_copy.store, 5
    usage = a_usage(three_series(1000 + 24 * days), end=END + timedelta(days=days))
    bundle = model_versions.load(store, trained_copy.training.version)
    fresh = replace(bundle, steering=replace(bundle.steering, fitted_until=usage.end.isoformat()))
    assert judged(store, usage).days == days
    with store.run(FORECAST, "train", {}) as run_id:
        version = model_versions.register(store, run_id, model_versions.log_model(store, run_id, fresh), {})
    audit_log.record_decision(store, Action.PROMOTED, version, by="gate", why="nightly", at=usage.end)
    found = judged(store, usage)
    assert (found.version, found.promised_by, found.days) == (version, "1", days)
    assert found.verdict is DriftVerdict.FINE


def judged(store: Store, usage: Usage) -> Health:
    """Look at the drift."""
    return watch_drift(usage, store, settings=some_settings(Path()))
