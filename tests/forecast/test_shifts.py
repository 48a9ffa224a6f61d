"""A level that moved: the forecast follows it at once, believes it the more the longer it holds, and costs no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from gangplan.forecast.models import demand
from gangplan.forecast.models.bundle import read_model, write_model
from gangplan.forecast.series.arrays import Floats
from gangplan.forecast.series.cleaning import Shift, at_new_levels, shifts_of
from gangplan.forecast.series.panel import Panel, from_usage

from .conftest import CHAT, END, TRAIN, a_usage, pinball, waves

HOURS, AHEAD = 800, 48
SINCE = HOURS - AHEAD - 72


def a_panel(factor: float) -> Panel:
    """Two series of waves, the second at another level for the last three days and on."""
    values = waves(HOURS, seed=2)
    values[SINCE:] *= factor
    return from_usage(a_usage({CHAT: waves(HOURS), TRAIN: values}))


def lost(made: Floats, panel: Panel) -> float:
    """The pinball loss of the series that shifted."""
    came = panel.values[panel.keys.index(TRAIN), HOURS - AHEAD :]
    return pinball(made[panel.keys.index(TRAIN)], came)


@pytest.mark.parametrize("factor", [0.5, 1.8])
def test_forecast_follows_a_new_level(factor: float) -> None:
    """Three days after a shift it loses less by a fifth than without the anchor; the other series is left as it was."""
    panel = a_panel(factor)
    known = panel.until(HOURS - AHEAD)
    fitted = demand.fit(known, AHEAD, seed=7)
    assert set(fitted.shifts) == {TRAIN}
    assert fitted.shifts[TRAIN].factor == pytest.approx(factor, rel=0.1)
    made = fitted.quantiles(known, AHEAD)[0]
    plain = replace(fitted, anchor=None).quantiles(known, AHEAD)[0]
    assert lost(made, panel) < 0.8 * lost(plain, panel)
    assert np.array_equal(made[panel.keys.index(CHAT)], plain[panel.keys.index(CHAT)])


def test_no_shift_leaves_no_anchor() -> None:
    """Where every level stands, nothing is learned twice."""
    fitted = demand.fit(a_panel(1.0).until(HOURS - AHEAD), AHEAD, seed=7)
    assert (fitted.shifts, fitted.anchor) == ({}, None)


def test_level_is_believed_the_more_the_longer_it_holds() -> None:
    """Half after a day, three quarters after three; before it began not at all."""
    shift = Shift(since=END, factor=2.0)
    told = [shift.belief(END + timedelta(days=days)) for days in (-1, 0, 1, 3)]
    assert told == pytest.approx([0.0, 0.0, 0.5, 0.75])


def test_only_the_past_is_brought_to_the_new_level() -> None:
    """Hours before the shift are multiplied, those since are left; missing ones stay missing."""
    panel = a_panel(2.0).until(HOURS - AHEAD)
    row = panel.keys.index(TRAIN)
    panel.values[row, 5] = np.nan
    shift = shifts_of(panel)[TRAIN]
    brought = at_new_levels(panel, {TRAIN: shift})
    at = (shift.since - panel.start) // timedelta(hours=1)
    assert brought.keys == (TRAIN,)
    assert brought.values[0, :at] == pytest.approx(panel.values[row, :at] * shift.factor, nan_ok=True)
    assert np.array_equal(brought.values[0, at:], panel.values[row, at:])


def test_anchor_survives_the_file(tmp_path: Path) -> None:
    """What was learned of a shift is read back as it was; a panel without that series is forecast all the same."""
    known = a_panel(1.8).until(HOURS - AHEAD)
    fitted = demand.fit(known, AHEAD, seed=7)
    write_model(tmp_path / "fit.json", fitted)
    read = read_model(tmp_path / "fit.json")
    assert read.shifts == fitted.shifts
    assert np.array_equal(read.quantiles(known, AHEAD)[0], fitted.quantiles(known, AHEAD)[0])
    other = known.only(np.array([known.keys.index(CHAT)]))
    assert np.isfinite(read.quantiles(other, AHEAD)[0]).all()
