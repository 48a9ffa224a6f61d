"""Levels that shifted: found in daily means, and undone in the past of a panel.

A level has shifted when the daily means of the last two days or more all lie beyond those of the two weeks before, by
at least half and by at least three times their usual spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from gangplan.clock import HOUR
from gangplan.forecast.series.arrays import DAY, Bools, Floats, Key, known_mean
from gangplan.forecast.series.panel import Panel

SHIFT = 1.5
_SPREADS = 3.0
_DAYS_AFTER, _DAYS_BEFORE, _LOOK_BACK = 2, 14, 21
_HALF_BELIEVED = 1.0  # days that a new level has to hold until it is half believed


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A level that shifted: since when, and by which factor."""

    since: datetime
    factor: float

    def belief(self, now: datetime) -> float:
        """Return how far to believe that the level stays, from 0 to 1: the more, the longer it has held."""
        days = max(0.0, (now - self.since) / (DAY * HOUR))
        return days / (days + _HALF_BELIEVED)


def shifts_of(panel: Panel) -> dict[Key, Shift]:
    """Find the series that stand at a new level."""
    busy = panel.has_event()
    shifts: dict[Key, Shift] = {}
    for row, key in enumerate(panel.keys):
        shift = _shift_in(panel.values[row], busy[row])
        if shift is not None:
            shifts[key] = Shift(since=panel.start + shift[0] * HOUR, factor=shift[1])
    return shifts


def at_new_levels(panel: Panel, shifts: dict[Key, Shift]) -> Panel:
    """Return only the series that shifted, their past multiplied up to the new level; without job records."""
    rows = np.array([row for row, key in enumerate(panel.keys) if key in shifts], dtype=np.int64)
    shifted = panel.only(rows)
    values = shifted.values.copy()
    for row, key in enumerate(shifted.keys):
        hour = (shifts[key].since - panel.start) // HOUR
        values[row, : max(0, hour)] *= shifts[key].factor
    return replace(shifted, values=values)


def _shift_in(values: Floats, busy: Bools) -> tuple[int, float] | None:
    """Return from which hour on a series stands at a new level, and the factor between the levels.

    Days on which an event was on are no evidence: the calendar explains them.
    """
    count = values.size // DAY
    first = values.size - DAY * count
    days = np.where(busy, np.nan, values)[first:].reshape(count, DAY)
    mean = known_mean(days, axis=1, above=DAY // 2 - 1)
    factors: dict[int, float] = {}
    for day in range(max(_DAYS_BEFORE, count - _LOOK_BACK), count - _DAYS_AFTER + 1):
        factor = _factor(mean[day - _DAYS_BEFORE : day], mean[day:])
        if factor is not None:
            factors[day] = factor
    if not factors:
        return None
    late = np.log(mean[max(0, count - _LOOK_BACK - _DAYS_BEFORE) :])
    best = min(factors, key=lambda day: _deviation(late[: day - count]) + _deviation(late[day - count :]))
    return first + DAY * best, factors[best]


def _deviation(logs: Floats) -> float:
    """Return the sum of the known days' distances from their median."""
    known = logs[~np.isnan(logs)]
    return float(np.abs(known - np.median(known)).sum())


def _factor(before: Floats, after: Floats) -> float | None:
    """Return the factor between the medians, where all days after lie clearly beyond all days before; else none."""
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    if before.size < _DAYS_BEFORE // 2 or after.size < _DAYS_AFTER or before.min() <= 0 or after.min() <= 0:
        return None
    up, down = after.min() / before.max(), after.max() / before.min()
    factor = float(np.median(after) / np.median(before))
    spread = 1.4826 * float(np.median(np.abs(np.log(before / np.median(before)))))
    clear = abs(np.log(factor)) >= max(np.log(SHIFT), _SPREADS * spread)
    return factor if clear and (up > 1 or down < 1) else None
