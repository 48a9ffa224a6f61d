"""Minutes to three hours ahead: better than the last value, nothing known of the future, odd series stop none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from gangplan.errors import InputError
from gangplan.forecast.models import naive
from gangplan.forecast.outlook import minutes
from gangplan.forecast.outlook.minutes import MinuteModel, MinutePanel

from .conftest import BATCH, CHAT, TRAIN, pinball

STEP, AHEAD = timedelta(minutes=5), 36
START = datetime(2026, 2, 16, tzinfo=UTC)


def serving(days: int = 6, seed: int = 1) -> np.ndarray:
    """Requests at work at once: a day that rises and falls, with noise of its own size and a slow drift."""
    rng = np.random.default_rng(seed)
    clock = np.arange(days * 288)
    mean = 30 + 22 * np.sin(2 * np.pi * clock / 288) + 4 * np.sin(2 * np.pi * clock / 2016)
    return rng.poisson(mean * np.exp(0.1 * np.convolve(rng.normal(0, 1, clock.size + 71), np.ones(72) / 8.5, "valid")))


def fine(*rows: np.ndarray) -> MinutePanel:
    """Series of that demand."""
    values = np.stack(rows).astype(np.float64)
    return MinutePanel(start=START, step=STEP, keys=(CHAT, TRAIN, BATCH)[: len(rows)], values=values)


@pytest.fixture(scope="module")
def world() -> MinutePanel:
    """Two sound series."""
    return fine(serving(seed=1), serving(seed=2))


@pytest.fixture(scope="module")
def fitted(world: MinutePanel) -> MinuteModel:
    """A model that knows the first five days."""
    return minutes.fit(world.until(5 * 288), AHEAD, seed=7)


def test_it_loses_less_than_the_last_value_and_its_bands_hold(world: MinutePanel, fitted: MinuteModel) -> None:
    """Over the sixth day, at one hour and at three, by a tenth at least; 70 to 92 % lie within the 80 % band."""
    origins = range(5 * 288, 6 * 288 - AHEAD, 18)
    came = np.stack([world.values[:, at : at + AHEAD] for at in origins])
    ours = np.stack([fitted.quantiles(world.until(at), AHEAD) for at in origins])
    last = np.stack([naive.last_value_quantiles(world.until(at), AHEAD) for at in origins])
    for steps in (12, AHEAD):
        mine, theirs = (pinball(made[:, :, :steps], came[:, :, :steps]) for made in (ours, last))
        assert mine < 0.9 * theirs
    inside = (came >= ours[..., 0]) & (came <= ours[..., 2])
    assert 0.70 < inside.mean() < 0.92


def test_nothing_is_known_of_the_future(world: MinutePanel, fitted: MinuteModel) -> None:
    """Another future leaves the fit, byte for byte, and the forecast as they were."""
    values = world.values.copy()
    values[:, 5 * 288 :] = 999.0
    other = MinutePanel(start=START, step=STEP, keys=world.keys, values=values).until(5 * 288)
    again = minutes.fit(other, AHEAD, seed=7)
    assert [[tree.text for tree in one] for one in again.trees] == [[t.text for t in one] for one in fitted.trees]
    known = world.until(5 * 288)
    assert np.array_equal(fitted.quantiles(known, AHEAD), again.quantiles(other, AHEAD))


def test_quantiles_are_sorted_and_at_least_nothing(world: MinutePanel, fitted: MinuteModel) -> None:
    """Whatever the series, gaps included."""
    values = world.values.copy()
    values[0, -60:-20] = np.nan
    values[1, -8:] = 0.0
    made = fitted.quantiles(MinutePanel(start=START, step=STEP, keys=world.keys, values=values), AHEAD)
    assert np.isfinite(made).all()
    assert (np.diff(made, axis=2) >= 0).all()
    assert (made >= 0).all()


def test_odd_series_fall_back_and_stop_none(world: MinutePanel) -> None:
    """A constant one is repeated, one of a few samples has the last value in wide bands, the third is learned."""
    short = np.full(6 * 288, np.nan)
    short[-10:] = 5.0
    odd = fine(world.values[0], np.full(6 * 288, 7.0), short)
    made = minutes.fit(odd, AHEAD, seed=7).quantiles(odd, AHEAD)
    assert made[1] == pytest.approx(7.0)
    assert made[2, :, 1] == pytest.approx(5.0)
    assert (made[2, :, 4] > 5.0).all()
    assert np.ptp(made[0, :, 1]) > 1


def test_table_becomes_series_and_too_little_is_refused(world: MinutePanel) -> None:
    """Rows in any order are laid out by their time; less than six hours is refused with a remedy."""
    table = minutes.to_table(world, world.values[:, :288, None].repeat(5, axis=2)).rename({"q0.5": "value"})
    end = table["time"].max() + STEP
    read = minutes.from_table(table.sample(fraction=1.0, shuffle=True, seed=1), STEP, end)
    assert read.keys == tuple(sorted(world.keys))
    assert read.values[read.keys.index(CHAT)] == pytest.approx(world.values[0, :288])
    with pytest.raises(InputError, match="six hours"):
        minutes.from_table(table, STEP, table["time"].min() + timedelta(hours=5))
