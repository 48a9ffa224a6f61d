"""Levels that shifted: found in daily means, and undone in the past of a panel, for a member that learns from that.

A level has moved when all of the last two days and more lie beyond all days of the two weeks before, by half at least
and by three times their usual spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from gangplan.forecast.series.arrays import Floats, Key
from gangplan.forecast.series.panel import HOUR, Panel

SHIFT = 1.5
_SPREADS = 3.0
_DAYS_AFTER, _DAYS_BEFORE, _LOOK_BACK = 2, 14, 21
_DOUBT = 1.0  # days that a level has to hold until it is half believed


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A level that moved: since when, and by which factor."""

    since: datetime
    factor: float

    def belief(self, now: datetime) -> float:
        """How far to believe that it stays, from 0 to 1: the more, the longer it has held."""
        held = max(0.0, (now - self.since) / (24 * HOUR))
        return held / (held + _DOUBT)


def shifts_of(panel: Panel) -> dict[Key, Shift]:
    """Find the series that stand at a new level."""
    made: dict[Key, Shift] = {}
    for row, key in enumerate(panel.keys):
        found = shifted(panel.values[row], _busy(panel, row))
        if found is not None:
            made[key] = Shift(since=panel.start + found[0] * HOUR, factor=found[1])
    return made


def anchored(panel: Panel, shifts: dict[Key, Shift]) -> Panel:
    """Return the series that shifted alone, their past brought to the new level; without job records."""
    rows = np.array([row for row, key in enumerate(panel.keys) if key in shifts], dtype=np.int64)
    alone = panel.only(rows)
    values = alone.values.copy()
    for row, key in enumerate(alone.keys):
        hour = (shifts[key].since - panel.start) // HOUR
        values[row, : max(0, hour)] *= shifts[key].factor
    return replace(alone, values=values)


def shifted(values: Floats, busy: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[int, float] | None:
    """Return from which hour on a series stands at a new level, and the factor between them.

    Days on which an event was on are no evidence: the calendar explains them.
    """
    count = values.size // 24
    first = values.size - 24 * count
    days = np.where(busy, np.nan, values)[first:].reshape(count, 24)
    known = ~np.isnan(days)
    totals = np.where(known, days, 0.0).sum(axis=1)
    mean = np.divide(totals, known.sum(axis=1), out=np.full(count, np.nan), where=known.sum(axis=1) >= 12)
    found: dict[int, float] = {}
    for day in range(max(_DAYS_BEFORE, count - _LOOK_BACK), count - _DAYS_AFTER + 1):
        factor = _step(mean[day - _DAYS_BEFORE : day], mean[day:])
        if factor is not None:
            found[day] = factor
    if not found:
        return None
    late = np.log(mean[max(0, count - _LOOK_BACK - _DAYS_BEFORE) :])
    best = min(found, key=lambda day: _rest(late[: day - count]) + _rest(late[day - count :]))
    return first + 24 * best, found[best]


def _rest(logs: Floats) -> float:
    """How far days lie from their middle, in all."""
    known = logs[~np.isnan(logs)]
    return float(np.abs(known - np.median(known)).sum())


def _step(before: Floats, after: Floats) -> float | None:
    """Return the factor between days, where all of one side lie beyond all of the other by half at least."""
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    if before.size < _DAYS_BEFORE // 2 or after.size < _DAYS_AFTER or before.min() <= 0 or after.min() <= 0:
        return None
    up, down = after.min() / before.max(), after.max() / before.min()
    factor = float(np.median(after) / np.median(before))
    spread = 1.4826 * float(np.median(np.abs(np.log(before / np.median(before)))))
    clear = abs(np.log(factor)) >= max(np.log(SHIFT), _SPREADS * spread)
    return factor if clear and (up > 1 or down < 1) else None


def _busy(panel: Panel, row: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The hours in which an event was on for a series."""
    found = np.zeros(panel.hours, dtype=bool)
    tenant = pl.col("tenant").is_null() | (pl.col("tenant") == panel.keys[row][0])
    for start, end in panel.events.filter(tenant).select("start", "end").iter_rows():
        first, after = (start - panel.start) // HOUR, -((panel.start - end) // HOUR)
        found[max(0, first) : max(0, after)] = True
    return found
