"""The next hours, corrected at once when an hour stands out: by how hours that stood out as much went on before.

A forecast that was made yesterday knows nothing of the spike that began an hour ago. To forecast anew takes the trees;
this takes the demand alone. Of all series the past hours that stood out most alike (analogues) say which share of an
excess was left one to six hours later, in the middle and at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.forecast.models import DAY, WEEK, History
from gangplan.forecast.series import HOUR, Floats, Ints, Key, Panel, from_usage, tidy
from gangplan.forecast.watch.spikes import Watch, watch
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES, Forecast, Usage

AHEAD = 6
ANALOGUES = 40
_MEMORY = 8 * WEEK  # whose hours that stood out are looked through
_LEAST = 8
_PRIOR = 4.0  # analogues that the prior counts as
_NOTABLE = 0.3  # of the threshold: what stands out less says nothing of spikes
_MEDIAN = QUANTILES.index(0.5)
# Where no hour stood out as much so far: half of an excess is left each hour, in the middle.
_HALVING = np.array([0.5**hour for hour in range(1, AHEAD + 1)], dtype=np.float64)
_UNKNOWN: Floats = np.stack(
    [0.2 * _HALVING, _HALVING, 1.2 * _HALVING**0.2, 1.5 * _HALVING**0.1, 2 * _HALVING**0.1], axis=1
)


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A series whose newest hour stands out; `excess` in GPUs, `score` in thresholds (1: just an alarm)."""

    key: Key
    hour: datetime
    gpus: float
    expected: float
    score: float

    @property
    def excess(self) -> float:
        """GPUs above what was expected; negative for a drop."""
        return self.gpus - self.expected

    @property
    def words(self) -> str:
        """The alarm for a reader."""
        name = " / ".join(self.key)
        return (
            f"{name} asked for {self.gpus:.1f} GPUs where {self.expected:.1f} were expected: next {AHEAD} h corrected"
        )


@dataclass(frozen=True, kw_only=True)
class Nowcast:
    """What stands out in the newest hour, and the forecast with the next hours of those series corrected."""

    alarms: tuple[Alarm, ...]
    forecast: Forecast


def correct_next_hours(usage: Usage, forecast: Forecast) -> Nowcast:
    """Correct the hours after the telemetry's end in a forecast that was made before them.

    Only series whose newest hour alarms are touched; a forecast that does not cover that hour is measured from what
    was expected of it.
    """
    panel = from_usage(usage)
    seen = watch(panel)
    alarms = alarms_at(panel, seen, panel.hours - 1)
    if forecast.stands_out and forecast.issued_at >= panel.end:  # it was made knowing that hour, and corrected by it
        return Nowcast(alarms=alarms, forecast=forecast)
    table = forecast.quantiles
    for alarm in alarms:
        table = _with(table, alarm, panel, seen)
    return Nowcast(alarms=alarms, forecast=replace(forecast, quantiles=table))


def foresee(panel: Panel, ask: Callable[[Panel], Floats]) -> tuple[Floats, tuple[Alarm, ...]]:
    """Forecast anew although an hour stands out: the forecast is asked as if it had come as expected, then corrected.

    Trees that see the first hour of a spike take it for a new level. `ask` gives series x horizon x levels for a panel.
    """
    late = panel.since(max(0, panel.hours - _MEMORY))
    seen = watch(late)
    alarms = alarms_at(late, seen, late.hours - 1)
    rows = [panel.keys.index(alarm.key) for alarm in alarms]
    calm = panel.values.copy()
    for row in rows:
        begun = _begun(seen, row)
        calm[row, panel.hours - late.hours + begun :] = seen.expected[row, begun]
    made = ask(replace(panel, values=calm)).copy()
    for row, alarm in zip(rows, alarms, strict=True):
        left = left_of(late, seen, late.hours - 1, alarm.score)[: made.shape[1]]
        made[row, :AHEAD] = corrected(made[row, :AHEAD], alarm.gpus - float(calm[row, -1]), left)
    return made, alarms


def alarms_at(panel: Panel, seen: Watch, hour: int) -> tuple[Alarm, ...]:
    """Name the series that stand out in that hour of the panel, the largest excess first."""
    found = [
        Alarm(
            key=panel.keys[row],
            hour=panel.start + hour * HOUR,
            gpus=float(panel.values[row, hour]),
            expected=float(seen.expected[row, hour]),
            score=float(_relative(seen)[row, hour]),
        )
        for row in np.flatnonzero(seen.spikes[:, hour] | seen.drops[:, hour])
    ]
    return tuple(sorted(found, key=lambda alarm: -abs(alarm.excess)))


def left_of(panel: Panel, seen: Watch, hour: int, score: float) -> Floats:
    """Return which share of an excess is left (hours ahead x levels), by the analogues known at `hour`.

    Where those stood out less than the present hour, what else moved demand is a larger share of their excess, so that
    their spread is taken smaller by the root of that. The fewer stood out as much, the more is it as if nothing were
    known: half of an excess is left each hour.

    Parameters
    ----------
    score
        The present score in thresholds; the sign tells spikes from drops.
    """
    relative = _relative(seen)[:, : hour - AHEAD + 1]
    apart = np.abs(np.log(np.maximum(relative * np.sign(score), 1e-9) / abs(score)))
    series, begun = np.nonzero((relative * np.sign(score) > _NOTABLE) & np.isfinite(apart))
    order = np.argsort(apart[series, begun], kind="stable")[:ANALOGUES]
    shares, usable = _shares(panel, series[order], begun[order])
    if shares.shape[0] < _LEAST:
        return _UNKNOWN
    middle = np.nanmedian(shares, axis=0)
    alike = np.minimum(1.0, relative[series[order], begun[order]][usable] / score)
    made: Floats = np.nanquantile(middle + (shares - middle) * np.sqrt(alike)[:, None], QUANTILES, axis=0).T
    trust = float((alike**2).sum() / ((alike**2).sum() + _PRIOR))
    blend: Floats = trust * made + (1 - trust) * _UNKNOWN
    return blend


def corrected(made: Floats, excess: float, left: Floats) -> Floats:
    """Add what is left of an excess to quantiles (hours x levels); both spreads count, as if independent."""
    moved = np.sort(excess * left, axis=1)
    middle = made[:, [_MEDIAN]] + moved[:, [_MEDIAN]]
    apart = np.hypot(made - made[:, [_MEDIAN]], moved - moved[:, [_MEDIAN]])
    side = np.where(np.arange(len(QUANTILES)) < _MEDIAN, -1.0, 1.0)
    return tidy(middle + side * apart)


def _begun(seen: Watch, row: int) -> int:
    """The hour in which the alarm that is on began: each hour before it that alarmed as well belongs to it."""
    alarmed = seen.spikes[row] | seen.drops[row]
    begun = alarmed.size - 1
    while alarmed[begun - 1] and begun > 1:
        begun -= 1
    return begun


def _with(table: pl.DataFrame, alarm: Alarm, panel: Panel, seen: Watch) -> pl.DataFrame:
    """Correct the rows of one series."""
    mine = pl.all_horizontal(pl.col(name) == value for name, value in zip(SERIES, alarm.key, strict=True))
    after = mine & (pl.col("hour") > alarm.hour) & (pl.col("hour") <= alarm.hour + AHEAD * HOUR)
    said = table.filter(mine & (pl.col("hour") == alarm.hour))["q0.5"]
    excess = alarm.gpus - float(said[0]) if said.len() else alarm.excess
    rows = table.filter(after).sort("hour")
    steps = ((rows["hour"] - alarm.hour).dt.total_hours() - 1).to_numpy()
    left = left_of(panel, seen, panel.hours - 1, alarm.score)[steps]
    made = corrected(rows.select(QUANTILE_COLUMNS).to_numpy(), excess, left)
    columns = [pl.Series(name, made[:, place]) for place, name in enumerate(QUANTILE_COLUMNS)]
    return pl.concat([table.filter(~after), rows.with_columns(columns)]).sort(*SERIES, "hour")


def _relative(seen: Watch) -> Floats:
    """The scores in thresholds of their own side; NaN where there is no threshold yet."""
    side = np.where(seen.score >= 0, seen.above, -seen.below)
    return np.divide(seen.score, side, out=np.full_like(side, np.nan), where=np.isfinite(side) & (side > 0))


def _shares(panel: Panel, series: Ints, begun: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Which share of the excess at `begun` was left 1 to `AHEAD` hours later, by analogue; and which can be told.

    Both are measured from the profile of seven days, moved by how far the hour before had been from it.
    """
    last = History(panel=panel, kinds=(), reach=0).last

    def profile(hour: Ints) -> Floats:
        back = DAY * -(-(hour - begun + 1) // DAY)
        return np.median([last[series, np.maximum(hour - back - DAY * day, 0)] for day in range(7)], axis=0)

    apart = last[series, np.maximum(begun - 1, 0)] - profile(begun - 1)
    excess = panel.values[series, begun] - profile(begun) - apart
    after = [panel.values[series, begun + step] - profile(begun + step) - apart for step in range(1, AHEAD + 1)]
    usable = (begun > WEEK) & (np.abs(excess) > 1e-9)
    return np.stack(after, axis=1)[usable] / excess[usable, None], usable
