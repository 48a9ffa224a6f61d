"""The next hours, corrected at once when an hour stands out: by what followed past hours that stood out as much.

A forecast that was made yesterday knows nothing of the spike that began an hour ago. A new forecast needs the trees; a
correction needs the demand alone. The most similar past hours of all series (analogues) tell which share of an excess
was left one to six hours later, at each level of the quantiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from gangplan.clock import HOUR
from gangplan.forecast.series import (
    DAY,
    MEDIAN,
    WEEK,
    Bools,
    Floats,
    Ints,
    Key,
    Panel,
    carried_forward,
    from_usage,
    ratio,
    tidy,
)
from gangplan.forecast.watch.spikes import Watch, watch
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES, Forecast, Usage

AHEAD = 6
ANALOGUES = 40
_MEMORY = 8 * WEEK  # hours that are searched for analogues
_LEAST = 8
_PRIOR = 4.0  # the prior weighs as much as so many analogues
_NOTABLE = 0.3  # of the threshold: an hour that stands out less is no analogue
_LEAST_PART = 0.5  # of what made an hour stand out: its excess over seven days counts as no less
_FARTHEST = 2.0
# The prior, where no hour stood out as much so far: half of an excess is left after each hour, at the median.
_HALVING = np.array([0.5**hour for hour in range(1, AHEAD + 1)], dtype=np.float64)
_PRIOR_LEFT: Floats = np.stack(
    [0.2 * _HALVING, _HALVING, 1.2 * _HALVING**0.2, 1.5 * _HALVING**0.1, 2 * _HALVING**0.1], axis=1
)


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A series whose last known hour stands out; `excess` in GPUs, `score` in thresholds (1: just an alarm)."""

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
        """The alarm as a sentence."""
        amounts = f"{self.gpus:.1f} GPUs where {self.expected:.1f} were expected"
        return f"{' / '.join(self.key)} asked for {amounts}: next {AHEAD} h corrected"


def correct_next_hours(usage: Usage, forecast: Forecast) -> tuple[Forecast, tuple[Alarm, ...]]:
    """Correct the hours after the telemetry's end in a forecast that was made before them; return the alarms too.

    Only series whose last known hour alarms are corrected. The excess is measured from the forecast's median, or from
    what was expected of that hour where the forecast does not cover it.
    """
    panel = from_usage(usage)
    seen = watch(panel)
    alarms = newest_alarms(panel, seen)
    knew = forecast.known_until or forecast.issued_at
    if forecast.stands_out and all(alarm.hour < knew for alarm in alarms):  # it is corrected already
        return forecast, alarms
    table = forecast.quantiles
    for alarm in alarms:
        table = _corrected_table(table, alarm, panel, seen)
    return replace(forecast, quantiles=table), alarms


def forecast_past_alarms(panel: Panel, ask: Callable[[Panel], Floats]) -> tuple[Floats, tuple[Alarm, ...]]:
    """Forecast as if the hours that stand out had come as expected, then correct the next hours.

    Trees that see the first hour of a spike would take it for a new level. `ask` returns the quantiles of a panel
    (series x horizon x levels, GPUs).
    """
    late = panel.since(max(0, panel.hours - _MEMORY))
    seen = watch(late)
    alarms = newest_alarms(late, seen)
    rows = [panel.keys.index(alarm.key) for alarm in alarms]
    last = [(alarm.hour - late.start) // HOUR for alarm in alarms]
    calm = panel.values.copy()
    ours = calm[:, panel.hours - late.hours :]
    for row, hour in zip(rows, last, strict=True):
        begun = _begun(seen, row, hour)
        ours[row, begun : hour + 1] = seen.expected[row, begun]
    quantiles = ask(replace(panel, values=calm)).copy()
    for row, hour, alarm in zip(rows, last, alarms, strict=True):
        late_by = late.hours - 1 - hour
        left = share_left(late, seen, alarm)[late_by:][: quantiles.shape[1]]
        ahead = left.shape[0]
        quantiles[row, :ahead] = corrected(quantiles[row, :ahead], alarm.gpus - float(ours[row, hour]), left)
    return quantiles, alarms


def newest_alarms(panel: Panel, seen: Watch) -> tuple[Alarm, ...]:
    """Name the series that stand out in their last known hour, if it is so new that hours ahead follow from it."""
    known = ~np.isnan(panel.values)
    last = np.where(known.any(axis=1), panel.hours - 1 - np.argmax(known[:, ::-1], axis=1), -1)
    alarms = [
        alarm
        for hour in np.unique(last[last >= max(0, panel.hours - AHEAD)])
        for alarm in alarms_at(panel, seen, int(hour))
        if last[panel.keys.index(alarm.key)] == hour
    ]
    return tuple(sorted(alarms, key=lambda alarm: -abs(alarm.excess)))


def alarms_at(panel: Panel, seen: Watch, hour: int) -> tuple[Alarm, ...]:
    """Name the series that stand out in that hour of the panel, the largest excess first."""
    relative = _relative(seen)
    alarms = [
        Alarm(
            key=panel.keys[row],
            hour=panel.start + hour * HOUR,
            gpus=float(panel.values[row, hour]),
            expected=float(seen.expected[row, hour]),
            score=float(relative[row, hour]),
        )
        for row in np.flatnonzero(seen.spikes[:, hour] | seen.drops[:, hour])
    ]
    return tuple(sorted(alarms, key=lambda alarm: -abs(alarm.excess)))


def share_left(panel: Panel, seen: Watch, alarm: Alarm) -> Floats:
    """Return which share of an alarm's excess is left (hours ahead x levels), by the analogues known at its hour.

    Where analogues stood out less than the present hour, other changes of demand are a larger share of their excess, so
    their spread is reduced by the root of that ratio. The fewer of them stood out as much, the more the prior counts.
    None takes the series farther than `_FARTHEST` excesses, unless it has moved farther in as many hours before.
    """
    hour, score = (alarm.hour - panel.start) // HOUR, alarm.score
    relative = _relative(seen)[:, : hour - AHEAD + 1]
    apart = np.abs(np.log(np.maximum(relative * np.sign(score), 1e-9) / abs(score)))
    series, begun = np.nonzero((relative * np.sign(score) > _NOTABLE) & np.isfinite(apart))
    order = np.argsort(apart[series, begun], kind="stable")[:ANALOGUES]
    shares, usable = _shares(panel, seen, series[order], begun[order])
    if shares.shape[0] < _LEAST:
        return _PRIOR_LEFT
    middle = np.nanmedian(shares, axis=0)
    alike = np.minimum(1.0, relative[series[order], begun[order]][usable] / score)
    left: Floats = np.nanquantile(middle + (shares - middle) * np.sqrt(alike)[:, None], QUANTILES, axis=0).T
    trust = float((alike**2).sum() / ((alike**2).sum() + _PRIOR))
    moved = _farthest_move(panel.values[panel.keys.index(alarm.key), max(0, hour - _MEMORY) : hour + 1])
    most = max(_FARTHEST, moved / max(abs(alarm.excess), 1e-9))
    return np.clip(trust * left + (1 - trust) * _PRIOR_LEFT, -most, most)


def _farthest_move(values: Floats) -> float:
    """Return how far a series ever moved in `AHEAD` hours or fewer, in GPUs."""
    moves = np.abs(
        np.concatenate([values[step:] - values[:-step] for step in range(1, min(AHEAD, values.size - 1) + 1)])
    )
    return float(np.nanmax(moves, initial=0.0))


def corrected(quantiles: Floats, excess: float, left: Floats) -> Floats:
    """Add what is left of an excess to quantiles (hours x levels); both spreads count, as if independent."""
    added = np.sort(excess * left, axis=1)
    median = quantiles[:, [MEDIAN]] + added[:, [MEDIAN]]
    spread = np.hypot(quantiles - quantiles[:, [MEDIAN]], added - added[:, [MEDIAN]])
    side = np.where(np.arange(len(QUANTILES)) < MEDIAN, -1.0, 1.0)
    return tidy(median + side * spread)


def _begun(seen: Watch, row: int, begun: int) -> int:
    """Return the hour in which an alarm began: the alarmed hours right before belong to it."""
    alarmed = seen.spikes[row] | seen.drops[row]
    while alarmed[begun - 1] and begun > 1:
        begun -= 1
    return begun


def _corrected_table(table: pl.DataFrame, alarm: Alarm, panel: Panel, seen: Watch) -> pl.DataFrame:
    mine = pl.all_horizontal(pl.col(name) == value for name, value in zip(SERIES, alarm.key, strict=True))
    after = mine & (pl.col("hour") > alarm.hour) & (pl.col("hour") <= alarm.hour + AHEAD * HOUR)
    median = table.filter(mine & (pl.col("hour") == alarm.hour))["q0.5"]
    excess = alarm.gpus - float(median[0]) if median.len() else alarm.excess
    rows = table.filter(after).sort("hour")
    steps = ((rows["hour"] - alarm.hour).dt.total_hours() - 1).to_numpy()
    left = share_left(panel, seen, alarm)[steps]
    quantiles = corrected(rows.select(QUANTILE_COLUMNS).to_numpy(), excess, left)
    columns = [pl.Series(name, quantiles[:, place]) for place, name in enumerate(QUANTILE_COLUMNS)]
    return pl.concat([table.filter(~after), rows.with_columns(columns)]).sort(*SERIES, "hour")


def _relative(seen: Watch) -> Floats:
    """The scores in thresholds of their own side; NaN where there is no threshold yet."""
    side = np.where(seen.score >= 0, seen.above, -seen.below)
    return ratio(seen.score, np.where(np.isfinite(side), side, 0.0))


def _shares(panel: Panel, seen: Watch, series: Ints, begun: Ints) -> tuple[Floats, Bools]:
    """Return the share of the excess at `begun` left 1 to `AHEAD` hours later, and which analogues have one.

    Both are measured from the same hour's median of seven days, moved by how far the hour before had been from it. An
    hour may stand out and yet have next to no such excess; what made it stand out bounds the share then.
    """
    last = carried_forward(panel.values)

    def profile(hour: Ints) -> Floats:
        back = DAY * -(-(hour - begun + 1) // DAY)
        return np.median([last[series, np.maximum(hour - back - DAY * day, 0)] for day in range(7)], axis=0)

    apart = last[series, np.maximum(begun - 1, 0)] - profile(begun - 1)
    excess = panel.values[series, begun] - profile(begun) - apart
    after = [panel.values[series, begun + step] - profile(begun + step) - apart for step in range(1, AHEAD + 1)]
    stood_out = panel.values[series, begun] - seen.expected[series, begun]
    side = np.sign(stood_out)
    base = side * np.maximum(side * excess, _LEAST_PART * np.abs(stood_out))
    usable = (begun > WEEK) & (np.abs(base) > 1e-9)
    return np.stack(after, axis=1)[usable] / base[usable, None], usable
