"""Growth is found with a band that holds it, parts add up, and the day on which a pool is full is named."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from gangplan.errors import InputError
from gangplan.forecast.outlook.growth import TOTAL, forecast_growth, when_full
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.tables import ANNOUNCED, conform

from .conftest import BATCH, CHAT, END, TRAIN, a_usage, waves

DAYS = 140


def world(rate: float, seed: int, days: int = DAYS) -> Panel:
    """Three series of three tenants that grow by that rate a day, with noise that lasts."""
    hours = 24 * days
    trend = np.exp(rate / 24 * np.arange(hours))
    rows = {
        key: waves(hours, level=30, noise=0.05, seed=seed + place) for place, key in enumerate((CHAT, TRAIN, BATCH))
    }
    return from_usage(a_usage({key: values * trend for key, values in rows.items()}))


@pytest.mark.parametrize("rate", [-0.003, 0.0, 0.004])
def test_band_holds_what_comes(rate: float) -> None:
    """Over ten worlds the 80 % band of the days 20 to 60 ahead holds 65 to 97 % of them, q0.95 at least 88 %."""
    inside: list[float] = []
    below: list[float] = []
    for seed in range(10):
        panel = world(rate, 10 * seed)
        known = panel.until(24 * (DAYS - 60))
        came = panel.values[:, known.hours :].reshape(3, 60, 24).mean(axis=2)
        for trend in forecast_growth(known, days=60):
            if trend.name != TOTAL:
                row = next(place for place, key in enumerate(panel.keys) if key[0] == trend.name)
                made = trend.quantiles[20:]
                inside.append(float(((came[row, 20:] >= made[:, 0]) & (came[row, 20:] <= made[:, 2])).mean()))
                below.append(float((came[row, 20:] <= made[:, 3]).mean()))
    assert 0.65 <= np.mean(inside) <= 0.97
    assert np.mean(below) >= 0.88


def test_growth_is_found_and_no_growth_is_not() -> None:
    """12 % a month lies in its band and 0 does not; without growth 0 lies in it."""
    for trend in forecast_growth(world(np.log(1.12) / 30, 3)):
        low, middle, high = trend.per_month
        assert 0 < low <= middle <= high
        assert middle == pytest.approx(0.12, abs=0.05)
    low, _, high = forecast_growth(world(0.0, 3))[0].per_month
    assert low < 0 < high


def test_parts_add_up_draw_by_draw() -> None:
    """The paths of all are the sum of the tenants' paths, so that the total is coherent with its parts."""
    total, *parts = forecast_growth(world(0.002, 1), days=30)
    assert total.name == TOTAL
    assert np.allclose(total.paths, np.sum([one.paths for one in parts], axis=0))
    assert np.allclose(total.past, np.sum([one.past for one in parts], axis=0))


def test_two_odd_weeks_do_not_bend_the_trend() -> None:
    """Demand doubled for ten days leaves the growth near where it was."""
    panel = world(0.002, 5)
    values = panel.values.copy()
    values[:, -24 * 30 : -24 * 20] *= 2
    calm, odd = (forecast_growth(one)[0].per_month[1] for one in (panel, Panel(**{**vars(panel), "values": values})))
    assert odd == pytest.approx(calm, abs=0.03)


def test_full_day_is_named_with_its_range() -> None:
    """Over ten worlds the day on which the busiest hour reaches 1.4 times today's lies in the range in 6 or more."""
    rate, held = 0.005, 0
    true_day = np.log(1.4) / rate
    for seed in range(10):
        panel = world(rate, 7 * seed)
        now = when_full(panel, {"h100": 1e6})[0].busiest_now
        (found,) = when_full(panel, {"h100": 1.4 * now})
        assert found.early is not None
        assert found.middle is not None
        assert found.early <= found.middle
        early, late = ((day - END.date()).days if day else 10_000 for day in (found.early, found.late))
        held += early <= true_day <= late
    assert held >= 6


def test_never_full_and_full_already() -> None:
    """A capacity far off has no day, one that is passed is full tomorrow, an accelerator nobody asked for never is."""
    found = {one.name: one for one in when_full(world(0.0, 2), {"h100": 1e5, "a100": 1.0, "tpu": 8})}
    assert (found["h100"].early, found["h100"].middle) == (None, None)
    assert found["a100"].late == END.date()
    assert (found["tpu"].busiest_now, found["tpu"].middle) == (0.0, None)


def test_target_lies_beside_the_trend() -> None:
    """What is meant grows steadily from the level at its start to that share more at its end."""
    start = END - timedelta(days=30)
    row = {**dict.fromkeys(ANNOUNCED), "start": start, "end": END + timedelta(days=30), "kind": "target"}
    announced = conform(
        "announced", pl.DataFrame([{**row, "tenant": CHAT[0], "growth": 0.5}], schema=ANNOUNCED), ANNOUNCED
    )
    trends = {one.name: one for one in forecast_growth(world(0.0, 4), announced=announced)}
    meant = trends[CHAT[0]].target
    assert meant is not None
    level = float(trends[CHAT[0]].past[-34:-27].mean())
    assert meant[29] == pytest.approx(1.5 * level, rel=0.05)
    assert meant[60] == pytest.approx(1.5 * level, rel=0.05)
    assert trends[TRAIN[0]].target is None


def test_odd_telemetry_is_no_crash() -> None:
    """Zeros, gaps, a late beginning: all numbers, none below zero; too short a past is named."""
    hours = 24 * 60
    late, gap = waves(hours), waves(hours)
    late[: 24 * 40] = np.nan
    gap[24 * 20 : 24 * 25] = np.nan
    rows = {CHAT: np.zeros(hours), TRAIN: late, BATCH: gap}
    for trend in forecast_growth(from_usage(a_usage(rows))):
        assert np.isfinite(trend.paths).all()
        assert (trend.paths >= 0).all()
    with pytest.raises(InputError, match="at least 28 days"):
        forecast_growth(world(0.0, 1, days=20))
    with pytest.raises(InputError, match="by: 'colour'"):
        forecast_growth(world(0.0, 1), by="colour")


def test_today_is_the_last_whole_day() -> None:
    """Ahead begins with the day in which the telemetry ends."""
    assert forecast_growth(world(0.0, 1))[0].today == (datetime(2026, 3, 1)).date()  # noqa: DTZ001 - a day
