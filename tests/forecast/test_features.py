"""Features are what they are called, worked out a second time by plain loops, and know nothing of the future."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from gangplan.forecast.models.features import History, build, choose_kinds
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.tables import EVENTS

from .conftest import BATCH, CHAT, END, a_usage, waves

START = END - timedelta(hours=700)
KINDS = ("campaign", "release: v2 {big}")


def some_events() -> pl.DataFrame:
    """A campaign of one tenant, and a release of all that lies in the future."""
    rows = [
        (START + timedelta(hours=100), START + timedelta(hours=110), KINDS[0], CHAT[0]),
        (END + timedelta(hours=5), END + timedelta(hours=6), KINDS[1], None),
    ]
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Two series of 700 hours, one with a gap, and events."""
    gappy = waves(700, level=12, seed=5)
    gappy[300:330] = np.nan
    return from_usage(a_usage({CHAT: waves(700, seed=4), BATCH: gappy}, events=some_events()))


def asked(panel: Panel, series: int, origin: int, horizon: int) -> dict[str, float]:
    """One row of features by name."""
    scaled = replace(panel, values=panel.values / panel.levels[:, None])
    history = History(panel=scaled, kinds=KINDS, reach=168)
    places = [np.array([value]) for value in (series, origin, horizon)]
    names, rows = build(history, *places, history.last[places[0], places[1]])
    return dict(zip(names, rows[0].tolist(), strict=True))


@given(series=st.integers(0, 1), origin=st.integers(0, 699), horizon=st.integers(1, 168))
def test_features_agree_with_plain_loops(panel: Panel, series: int, origin: int, horizon: int) -> None:
    """Lags, rolling means, same hours and calendar are what a loop over the rows makes of them."""
    y, level = panel.values[series], panel.levels[series]
    observed = [value for value in y[: origin + 1] if not np.isnan(value)]
    base, target = observed[-1], origin + horizon

    def at(hour: int) -> float:
        return (y[hour] - base) / level if 0 <= hour <= origin else np.nan

    def mean(values: list[float]) -> float:
        known = [value for value in values if not np.isnan(value)]
        return sum(known) / len(known) if known else np.nan

    day, week = target, target
    while day > origin:
        day -= 24
    while week > origin:
        week -= 168
    moment = panel.start + timedelta(hours=target)
    wanted = {
        "horizon": horizon,
        "hour_of_day": moment.hour,
        "day_of_week": moment.weekday(),
        "lag_3": at(origin - 3),
        "lag_168": at(origin - 168),
        "mean_24": mean([at(origin - back) for back in range(24)]),
        "same_hour_1_day": at(day),
        "same_hour_7_days_mean": mean([at(day - 24 * back) for back in range(7)]),
        "same_hour_1_week": at(week),
        "same_hour_4_weeks_mean": mean([at(week - 168 * back) for back in range(4)]),
        "step_last_week": at(week) - at(origin - (target - week)),
    }
    found = asked(panel, series, origin, horizon)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5, nan_ok=True), name


@given(origin=st.integers(0, 650), horizon=st.integers(1, 168))
def test_features_know_nothing_after_their_origin(panel: Panel, origin: int, horizon: int) -> None:
    """Another future after the origin leaves every feature as it was."""
    values = panel.values.copy()
    values[:, origin + 1 :] = 1e6
    changed = Panel(start=panel.start, keys=panel.keys, values=values, events=panel.events)
    scale = panel.levels[[0]]
    places = [np.array([value]) for value in (0, origin, horizon)]
    rows = [build(History(panel=one, kinds=KINDS, reach=168), *places, scale)[1] for one in (panel, changed)]
    assert np.array_equal(rows[0], rows[1], equal_nan=True)


def test_events_are_known_ahead_and_of_their_tenant(panel: Panel) -> None:
    """An event to come is seen at its hour; one of another tenant is not."""
    ahead = asked(panel, 0, 699, 6)  # the 6th hour after the last is [end + 5 h, end + 6 h)
    assert (ahead["event_1_release_v2_big_at_target"], ahead["event_1_release_v2_big_at_origin"]) == (1, 0)
    assert asked(panel, 0, 699, 7)["event_1_release_v2_big_at_target"] == 0
    assert asked(panel, 0, 699, 8)["event_1_release_v2_big_since"] == 2
    own, other = panel.keys.index(CHAT), panel.keys.index(BATCH)
    assert asked(panel, own, 90, 12)["event_0_campaign_at_target"] == 1
    assert asked(panel, other, 90, 12)["event_0_campaign_at_target"] == 0


def test_kinds_with_most_hours_come_first() -> None:
    """The kinds of events are those with the most hours."""
    assert choose_kinds(some_events()) == KINDS
