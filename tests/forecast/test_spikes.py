"""Spikes are alarmed while they last, noise seldom is, and nothing is judged by what came after it."""

from __future__ import annotations

import numpy as np
import pytest

from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.forecast.watch.spikes import FALSE_HOURS_PER_WEEK, WEEK, watch

from .conftest import CHAT, TRAIN, a_usage, waves

HOURS = 1400


def panel_of(*rows: np.ndarray) -> Panel:
    """A panel of these series."""
    return from_usage(a_usage(dict(zip((CHAT, TRAIN), rows, strict=False))))


def with_spike(values: np.ndarray, at: int, hours: int, share: float) -> np.ndarray:
    """The series with a spike of that share of its last week's mean."""
    made = values.copy()
    made[at : at + hours] += share * np.nanmean(values[at - WEEK : at])
    return made


@pytest.mark.parametrize("at", range(1000, 1380, 29))
def test_spike_is_alarmed_in_its_first_hour(at: int) -> None:
    """A jump of half the weekly mean alarms when its first hour is over."""
    values = with_spike(waves(HOURS), at, 3, 0.5)[: at + 1]
    assert watch(panel_of(values)).spikes[0, at]


def test_drop_is_alarmed_on_its_own_side() -> None:
    """Half of the demand gone is a drop and no spike."""
    values = with_spike(waves(HOURS), 1100, 2, -0.5)
    seen = watch(panel_of(values))
    assert seen.drops[0, 1100]
    assert not seen.spikes[0, 1100]


@pytest.mark.parametrize("tail", ["normal", "fat"])
def test_noise_alarms_at_the_stated_rate(tail: str) -> None:
    """Over 60 series with noise, thin-tailed or fat-tailed, at most a quarter more hours alarm than stated."""
    random = np.random.default_rng(4)
    false, weeks = 0, 0.0
    for seed in range(60):
        noise = random.normal(0, 2, HOURS) if tail == "normal" else random.standard_t(2.5, HOURS)
        seen = watch(panel_of(np.maximum(0, waves(HOURS, seed=seed) + noise)))
        told = np.isfinite(seen.above[0])
        false += int(seen.spikes[0, told].sum())
        weeks += told.sum() / WEEK
    assert false / weeks <= 1.25 * FALSE_HOURS_PER_WEEK
    assert false > 0  # the threshold is no wall


def test_quiet_nights_do_not_hide_a_spike() -> None:
    """Where nights are near zero, half the weekly mean at night alarms, and the days' noise does not drown it."""
    random = np.random.default_rng(2)
    busy = (np.arange(HOURS) % 24 >= 9) & (np.arange(HOURS) % 24 < 20)
    values = np.where(busy, 100 * random.lognormal(0, 0.5, HOURS), random.exponential(0.5, HOURS))
    night = 1200 - 1200 % 24 + 3
    assert watch(panel_of(with_spike(values, night, 2, 0.5)[: night + 1])).spikes[0, night]


def test_nothing_looks_ahead() -> None:
    """Changing the future changes nothing that was judged before it."""
    values = waves(HOURS)
    before = watch(panel_of(values))
    after = watch(panel_of(np.concatenate([values[:1000], values[1000:] * 3])))
    for name in ("expected", "score", "above", "below"):
        mine, other = getattr(before, name)[:, :1000], getattr(after, name)[:, :1000]
        assert np.array_equal(mine, other, equal_nan=True), name


def test_missing_hours_are_no_alarm_and_clear_spikes_raise_no_threshold() -> None:
    """A gap alarms nothing; ten great spikes in the past leave the threshold near where it was."""
    values = waves(HOURS)
    values[900:920] = np.nan
    assert not (watch(panel_of(values)).spikes | watch(panel_of(values)).drops)[0, 900:920].any()
    spiked = waves(HOURS)
    for at in range(700, 1300, 60):
        spiked = with_spike(spiked, at, 1, 3.0)
    calm, loud = (watch(panel_of(one)).above[0, -1] for one in (waves(HOURS), spiked))
    assert loud < 2 * calm


def test_too_short_a_past_alarms_nothing() -> None:
    """In the first week and a half nothing is alarmed: there is nothing to judge by."""
    values = with_spike(waves(240), 200, 2, 2.0)
    assert not watch(panel_of(values)).spikes.any()
