"""After an alarm the next hours of that series are corrected at once, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gangplan.clock import HOUR
from gangplan.forecast.evaluation.backtest import to_table
from gangplan.forecast.models import naive
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.forecast.watch.nowcast import AHEAD, correct_next_hours, forecast_past_alarms
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import SERIES, Forecast, Usage

from .conftest import CHAT, END, TRAIN, Row, a_usage, waves

HOURS = 1400


def stale(values: dict[Row, np.ndarray], age: int) -> Forecast:
    """A naive forecast that was made `age` hours before the end."""
    panel = from_usage(a_usage(values)).until(HOURS - age)
    return Forecast(issued_at=panel.end, model="naive", quantiles=to_table(panel, naive.average_quantiles(panel, 48)))


def spiking(*, begun: int, shape: tuple[float, ...]) -> tuple[Usage, Forecast, np.ndarray]:
    """Telemetry in whose newest hour a spike has begun, the forecast from before it, and what comes."""
    chat, train = waves(HOURS + AHEAD, seed=1), waves(HOURS + AHEAD, seed=2)
    for at in (*range(500, 1300, 90), begun):  # spikes of the past went on alike
        chat[at : at + len(shape)] += np.array(shape) * 40
    known = {CHAT: chat[:HOURS], TRAIN: train[:HOURS]}
    return a_usage(known), stale(known, 12), chat[HOURS:]


def of(forecast: Forecast, key: Row) -> pl.DataFrame:
    """The six hours after the end, of one series."""
    mine = forecast.quantiles.filter(pl.col("tenant") == key[0], pl.col("hour") >= END)
    return mine.sort("hour").head(AHEAD)


def test_peak_is_foreseen_before_it_comes() -> None:
    """When spikes of the past doubled in their second hour, q0.95 reaches the peak an hour before it."""
    usage, forecast, came = spiking(begun=HOURS - 1, shape=(0.6, 1.2, 1.2))
    found, alarms = correct_next_hours(usage, forecast)
    assert [alarm.key for alarm in alarms] == [CHAT]
    before, after = of(forecast, CHAT), of(found, CHAT)
    assert before["q0.99"][0] < came[0]
    assert after["q0.95"][0] >= 0.97 * came[0]
    misses = [float(np.abs(one["q0.5"].to_numpy() - came).mean()) for one in (before, after)]
    assert misses[1] < 0.6 * misses[0]


@pytest.mark.parametrize("side", [1, -1])
def test_analogues_with_next_to_no_excess_make_no_absurd_quantiles(side: int) -> None:
    """Hours that stood out and yet had hardly an excess over seven days, before a large move: 25 GPUs stay tens."""
    chat, train = waves(HOURS + AHEAD, seed=1) + 60, waves(HOURS + AHEAD, level=3, seed=2)
    for at in range(400, 1300, 40):  # a small series: a hair more, and hours later a hundred times as much
        train[at] += side * 0.8 if side > 0 else -0.8
        train[at + 1 : at + 6] += 300
    chat[HOURS - 1] += side * 25
    known = {CHAT: chat[:HOURS], TRAIN: train[:HOURS]}
    found, alarms = correct_next_hours(a_usage(known), stale(known, 12))
    (alarm,) = [alarm for alarm in alarms if alarm.key == CHAT]
    moved = max(np.abs(chat[step:HOURS] - chat[: HOURS - step]).max() for step in range(1, AHEAD + 1))
    farthest = max(2 * abs(alarm.excess), moved)
    plain = of(stale(known, 12), CHAT).select(QUANTILE_COLUMNS).to_numpy()
    made = of(found, CHAT).select(QUANTILE_COLUMNS).to_numpy()
    assert np.abs(made - plain).max() <= 2 * farthest
    assert made.max() < 300


def test_all_else_stays() -> None:
    """The calm series, the hours before and those after the sixth keep their quantiles; the result is sorted."""
    usage, forecast, _ = spiking(begun=HOURS - 1, shape=(1.0, 1.0))
    found, _ = correct_next_hours(usage, forecast)
    touched = (pl.col("tenant") == CHAT[0]) & pl.col("hour").is_between(END, END + timedelta(hours=AHEAD - 1))
    order = [*SERIES, "hour"]
    assert found.quantiles.filter(~touched).equals(forecast.quantiles.filter(~touched).sort(order))
    made = found.quantiles.select(QUANTILE_COLUMNS).to_numpy()
    assert (np.diff(made, axis=1) >= 0).all()
    assert (made >= 0).all()


def test_without_an_alarm_nothing_changes() -> None:
    """A calm newest hour leaves the forecast as it is."""
    usage, forecast, _ = spiking(begun=HOURS - 30, shape=(1.0, 1.0))
    found, alarms = correct_next_hours(usage, forecast)
    assert alarms == ()
    assert found.quantiles.equals(forecast.quantiles)


@pytest.mark.parametrize("hours", [60, 300])
def test_short_past_is_no_error(hours: int) -> None:
    """A young series alarms late, and is corrected by what is usual of spikes when it has none of its own."""
    values = waves(hours)
    values[-1] *= 4
    usage = a_usage({CHAT: values})
    panel = from_usage(usage).until(hours - 6)
    made = Forecast(issued_at=panel.end, model="naive", quantiles=to_table(panel, naive.average_quantiles(panel, 24)))
    found, alarms = correct_next_hours(usage, made)
    assert bool(alarms) == (hours == 300)
    assert found.quantiles.height == made.quantiles.height


@pytest.mark.parametrize("late", [1, 3])
def test_the_last_delivered_hour_alarms_when_the_clock_has_passed_it(late: int) -> None:
    """A spike that began in it corrects the same hours, however many hours are missing since."""
    usage, forecast, _ = spiking(begun=HOURS - 1, shape=(0.6, 1.2, 1.2))
    later = replace(usage, end=END + late * HOUR, known_until=END)
    found, alarms = correct_next_hours(later, forecast)
    fresh, same = correct_next_hours(usage, forecast)
    assert alarms == same
    assert alarms[0].hour == END - HOUR
    assert found.quantiles.equals(fresh.quantiles)


@pytest.mark.parametrize("late", [0, 1, 3, AHEAD])
def test_a_late_forecast_is_corrected_in_the_hours_that_are_left(late: int) -> None:
    """Of the six hours after the last known one, those that lie ahead are corrected."""
    usage, _, _ = spiking(begun=HOURS - 1, shape=(1.0, 1.0, 1.0))
    panel = from_usage(replace(usage, end=END + late * HOUR, known_until=END))
    asked: list[np.ndarray] = []

    def ask(known: Panel) -> np.ndarray:
        asked.append(naive.average_quantiles(known, 24))
        return asked[-1]

    made, alarms = forecast_past_alarms(panel, ask)
    row = panel.keys.index(CHAT)
    moved = np.flatnonzero((made[row] != asked[0][row]).any(axis=1)).tolist()
    assert len(alarms) == (late < AHEAD)
    assert moved == list(range(AHEAD - late))
