"""Outages and stuck samples are no demand, a new level is said, and sound telemetry is left alone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from gangplan.forecast.series.cleaning import cleaned
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.tables import EVENTS, conform

from .conftest import CHAT, END, TRAIN, a_usage, waves

HOURS = 1000


def panel_of(values: np.ndarray, events: pl.DataFrame | None = None) -> Panel:
    """A sound series, and this one."""
    return from_usage(a_usage({CHAT: waves(HOURS), TRAIN: values}, events=events))


def missing(panel: Panel) -> list[int]:
    """The hours of the second series that were taken as missing."""
    return np.flatnonzero(np.isnan(cleaned(panel).values[panel.keys.index(TRAIN)])).tolist()


@pytest.mark.parametrize("at", [700, HOURS - 5])
def test_outage_is_missing_and_said(at: int) -> None:
    """Five hours at nothing in a series that never was there are missing, also while they last."""
    values = waves(HOURS, seed=2)
    values[at : at + 5] = 0
    assert missing(panel_of(values)) == list(range(at, at + 5))
    (note,) = cleaned(panel_of(values)).notes
    assert "vision / throughput / a100: 5 hours look dead" in note


def test_demand_that_is_gone_or_comes_and_goes_is_no_outage() -> None:
    """Three days at nothing are real; so are nights at nothing in a series that has them."""
    gone, nights = waves(HOURS, seed=2), waves(HOURS, seed=2)
    gone[700:772] = 0
    nights[np.arange(HOURS) % 24 < 6] = 0
    assert missing(panel_of(gone)) == []
    assert missing(panel_of(nights)) == []


def test_stuck_samples_are_missing_but_for_the_first() -> None:
    """A number that stands still for a day is missing from its fourth hour on; a series of steps is left alone."""
    stuck, steps = waves(HOURS, seed=2), np.repeat(np.arange(1.0, 1 + HOURS / 20), 20)[:HOURS]
    stuck[700:724] = stuck[700]
    assert missing(panel_of(stuck)) == list(range(703, 724))
    assert missing(panel_of(steps)) == []


@pytest.mark.parametrize("factor", [2.0, 0.4])
def test_new_level_is_said_with_its_size_and_day(factor: float) -> None:
    """After three days at another level the notes say since when and by how much; no value is changed."""
    values = waves(HOURS, seed=2)
    values[HOURS - 72 :] *= factor
    panel = panel_of(values)
    found = cleaned(panel)
    assert np.array_equal(found.values, panel.values)
    match = re.fullmatch(r"vision / throughput / a100: level moved by ([+-]\d+)%, from (.*)", found.notes[0])
    assert match is not None
    moved, said = match.groups()
    assert int(moved) == pytest.approx(100 * (factor - 1), abs=35)  # two of the three days are a weekend
    assert abs(datetime.fromisoformat(f"{said}+00:00") - (END - timedelta(hours=72))) <= timedelta(days=1)


def test_growth_noise_and_announced_events_are_no_shift() -> None:
    """Steady growth, noisy days, and a campaign that the calendar names leave the past as it is."""
    growing = waves(HOURS, growth=0.001, seed=2)
    noisy = waves(HOURS, seed=2) * np.repeat(np.random.default_rng(1).lognormal(0, 0.5, HOURS // 24 + 1), 24)[:HOURS]
    campaign = waves(HOURS, seed=2)
    campaign[-72:] *= 2
    begun = END - timedelta(hours=72)
    rows = [(begun, END + timedelta(days=2), "campaign", TRAIN[0])]
    events = conform("events", pl.DataFrame(rows, schema=EVENTS, orient="row"), EVENTS)
    for panel in (panel_of(growing), panel_of(noisy), panel_of(campaign, events)):
        assert np.array_equal(cleaned(panel).values, panel.values, equal_nan=True)
        assert cleaned(panel).notes == ()


def test_what_is_sound_or_odd_stays_as_it_is() -> None:
    """Sound, constant, empty and short series come back unchanged."""
    for values in (waves(HOURS, seed=3), np.full(HOURS, 7.0), np.zeros(HOURS), np.full(HOURS, np.nan)):
        panel = panel_of(values)
        assert np.array_equal(cleaned(panel).values, panel.values, equal_nan=True)
    short = from_usage(a_usage({CHAT: waves(30)}))
    assert np.array_equal(cleaned(short).values, short.values)
