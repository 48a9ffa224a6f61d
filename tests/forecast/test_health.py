"""The watch says fine of a sound champion, retrain when demand behaves anew, inputs changed when telemetry does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.forecast import backtest, model
from gangplan.forecast.health import Verdict, judge, watch_drift
from gangplan.forecast.model import DemandModel
from gangplan.forecast.panel import Panel, from_usage

from .conftest import BATCH, CHAT, TRAIN, Trained, a_usage, waves

HOURS, LATE = 1500, 240  # the model was fitted ten days before the end


def world(seed: int = 1) -> Panel:
    """Three sound series."""
    rows = {key: waves(HOURS, level=40, seed=seed + place) for place, key in enumerate((CHAT, TRAIN, BATCH))}
    return from_usage(a_usage(rows))


@pytest.fixture(scope="module")
def fitted() -> tuple[DemandModel, pl.DataFrame]:
    """A model fitted ten days before the end of `world()`, and its back-test."""
    known = world().until(HOURS - LATE)
    window = backtest.choose_window(known, 48, 7)
    tested = model.fit(known.until(window.origins[0]), 48, seed=7)
    return model.fit(known, 48, seed=7), backtest.run(tested, known, window)


def changed(panel: Panel, values: np.ndarray) -> Panel:
    """The panel with other values of the first series."""
    made = panel.values.copy()
    made[panel.keys.index(CHAT)] = values
    return replace(panel, values=made)


def test_sound_champion_is_fine(fitted: tuple[DemandModel, pl.DataFrame]) -> None:
    """Where demand goes on as it was, the verdict is fine, over all days since the fit."""
    found = judge(world(), *fitted, version="1")
    assert (found.verdict, found.days) == (Verdict.FINE, LATE // 24)
    assert {one.key for one in found.series} == {CHAT, TRAIN, BATCH}


def test_level_that_never_was_is_changed_inputs_with_series_and_feature(
    fitted: tuple[DemandModel, pl.DataFrame],
) -> None:
    """Demand that jumps about as never before: inputs changed, with that series and a feature of the trees."""
    panel = world()
    values = panel.values[panel.keys.index(CHAT)].copy()
    values[-LATE:] *= np.random.default_rng(3).lognormal(0, 0.8, LATE)
    found = judge(changed(panel, values), *fitted, version="1")
    assert found.verdict is Verdict.INPUTS
    assert "language / latency / h100" in found.reason
    assert "vision" not in found.reason
    assert any(one.key == CHAT and one.feature in found.reason for one in found.changed)


def test_same_inputs_with_other_consequences_ask_for_retraining(fitted: tuple[DemandModel, pl.DataFrame]) -> None:
    """A model whose answers are off while its features look as ever: retrain."""
    trained, promised = fitted
    honest = promised.with_columns(
        pl.col(f"q{level:g}") * 0 + pl.col("gpus") * 1.002 for level in (0.1, 0.5, 0.9, 0.95, 0.99)
    )
    found = judge(world(), trained, honest, version="1")
    assert found.verdict is Verdict.RETRAIN
    assert "gangplan train" in found.reason


def test_broken_collector_is_named(fitted: tuple[DemandModel, pl.DataFrame]) -> None:
    """A series of which a third is missing of late is among what changed."""
    panel = world()
    values = panel.values[panel.keys.index(CHAT)].copy()
    values[-LATE::3] = np.nan
    found = judge(changed(panel, values), *fitted, version="1")
    assert (CHAT, "missing hours") in {(one.key, one.feature) for one in found.changed}


def test_new_and_vanished_series_are_named(fitted: tuple[DemandModel, pl.DataFrame]) -> None:
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
    assert found.verdict is Verdict.YOUNG
    assert "0 whole days" in found.reason
    assert watch_drift is forecast.watch_drift
