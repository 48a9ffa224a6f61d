"""Telemetry as a model may learn from it: outages and stuck samples are no demand; a level that shifted is said.

Three faults are found, and each is said in the panel's notes:
- dead: two hours or more at next to nothing, in a series that was never there in the two weeks before, is a collector
  or a cluster that was down; it is missing, unless it lasts for more than two days: then demand is gone;
- stuck: the very same number for half a day and more, three times as long as ever before, is missing after its first
  hours;
- shifted: when all of the last two days and more lie beyond all days of the two weeks before, by half at least and by
  three times their usual spread, then that is said, and nothing is changed: the model's members follow a level within
  days, and to bring the past to the new level, when it was tried, gained on made-up shifts and lost on public traces.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from gangplan.forecast.arrays import Floats
from gangplan.forecast.panel import HOUR, Panel

DEAD_SHARE = 0.1
LONGEST_OUTAGE = 48
LEAST_STUCK = 12
SHIFT = 1.5
_SPREADS = 3.0
_BEFORE = 336
_LEAST_OUTAGE = 2
_LEAST_FLOOR = 0.25  # of the mean: a series whose quiet hours lie below is not judged
_DAYS_AFTER, _DAYS_BEFORE, _LOOK_BACK = 2, 14, 21


def cleaned(panel: Panel) -> Panel:
    """Return the panel without outages and stuck samples; its notes say of these, and of levels that moved."""
    values, notes = panel.values.copy(), list(panel.notes)
    for row, key in enumerate(panel.keys):
        name = " / ".join(key)
        for fault, hours in (("dead", dead(values[row])), ("stuck", stuck(values[row]))):
            values[row, hours] = np.nan
            if hours.size:
                notes.append(f"{name}: {hours.size} hours look {fault}: taken as missing, from {_first(panel, hours)}")
        found = shifted(values[row], _busy(panel, row))
        if found is not None:
            hour, factor = found
            notes.append(f"{name}: level moved by {factor - 1:+.0%}, from {panel.start + hour * HOUR:%Y-%m-%d %H:00}")
    return replace(panel, values=values, notes=tuple(notes))


def dead(values: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the hours in which a series lay at next to nothing as it never did in the two weeks before."""
    found: list[int] = []
    run: list[int] = []
    mean = float(np.nanmean(values)) if (~np.isnan(values)).any() else 0.0
    for hour in np.flatnonzero(values <= DEAD_SHARE * mean):
        begun = run[0] if run and run[-1] == hour - 1 else int(hour)
        if begun == hour:
            found += _outage(values, run, mean)
            run = []
        run.append(int(hour))
    return np.array([*found, *_outage(values, run, mean)], dtype=np.int64)


def _outage(values: Floats, run: list[int], mean: float) -> list[int]:
    """Return a run of low hours when it is an outage: short, and far below all that was before it."""
    if not _LEAST_OUTAGE <= len(run) <= LONGEST_OUTAGE:
        return []
    before = values[max(0, run[0] - _BEFORE) : run[0]]
    known = before[~np.isnan(before)]
    floor = float(np.quantile(known, 0.01)) if known.size >= _BEFORE // 4 else 0.0
    low = float(np.max(values[run]))
    return run if floor > _LEAST_FLOOR * mean and low <= DEAD_SHARE * floor else []


def stuck(values: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the hours that repeat the very same number far longer than the series ever did before."""
    same = np.concatenate([[False], values[1:] == values[:-1]])
    length = np.zeros(values.size, dtype=np.int64)
    for hour in np.flatnonzero(same):
        length[hour] = length[hour - 1] + 1
    longest = np.maximum.accumulate(np.where(np.append(length[1:], 0) == 0, length, 0))
    found: list[int] = []
    for end in np.flatnonzero((length >= LEAST_STUCK) & (np.append(length[1:], 0) == 0)):
        begun = int(end) - int(length[end])
        usual = int(longest[begun - 1]) if begun > 0 else int(length[end])
        if begun >= _BEFORE // 2 and values[end] > 0 and length[end] > 3 * max(usual, 1):
            found += range(begun + 3, int(end) + 1)
    return np.array(found, dtype=np.int64)


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


def _first(panel: Panel, hours: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """Say when the first of those hours was."""
    return f"{panel.start + int(hours[0]) * HOUR:%Y-%m-%d %H:00}"
