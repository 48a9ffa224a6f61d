"""Faults of telemetry: outages and stuck samples are taken out before a model learns, levels that shifted are found.

docs/outlook.md says which faults are found, and what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from gangplan.clock import HOUR
from gangplan.forecast.series.arrays import DAY, Bools, Floats, Ints, Key, known_mean
from gangplan.forecast.series.panel import Panel

DEAD_SHARE = 0.1
LONGEST_OUTAGE = 48
LEAST_STUCK = 12
_BEFORE = 336
_LEAST_OUTAGE = 2
_LEAST_FLOOR = 0.25  # of the mean: a series whose quiet hours lie below is not judged

SHIFT = 1.5
_SPREADS = 3.0
_DAYS_AFTER, _DAYS_BEFORE, _LOOK_BACK = 2, 14, 21
_HALF_BELIEVED = 1.0  # days that a new level has to hold until it is half believed


def cleaned(panel: Panel) -> Panel:
    """Return the panel without outages and stuck samples; its notes name them, and the levels that shifted."""
    values, notes = panel.values.copy(), list(panel.notes)
    for row, key in enumerate(panel.keys):
        name = " / ".join(key)
        for fault, hours in (("dead", dead(values[row])), ("stuck", stuck(values[row]))):
            values[row, hours] = np.nan
            if hours.size:
                begun = f"{panel.start + int(hours[0]) * HOUR:%Y-%m-%d %H:00}"
                notes.append(f"{name}: {hours.size} hours look {fault}: taken as missing, from {begun}")
    mended = replace(panel, values=values)
    for key, shift in shifts_of(mended).items():
        notes.append(f"{' / '.join(key)}: level moved by {shift.factor - 1:+.0%}, from {shift.since:%Y-%m-%d %H:00}")
    return replace(mended, notes=tuple(notes))


def dead(values: Floats) -> Ints:
    """Return the hours of outages: a series lay at next to nothing, as it never did in the two weeks before."""
    mean = float(np.nanmean(values)) if (~np.isnan(values)).any() else 0.0
    low = [run for run in _runs(values <= DEAD_SHARE * mean) if _is_outage(values, run, mean)]
    return np.array([hour for run in low for hour in run], dtype=np.int64)


def _runs(hours: Bools) -> list[range]:
    """Return the stretches of hours in a row that are true."""
    edges = np.flatnonzero(np.diff(hours, prepend=False, append=False)).tolist()
    return [range(first, after) for first, after in zip(edges[::2], edges[1::2], strict=True)]


def _is_outage(values: Floats, run: range, mean: float) -> bool:
    """Tell whether a run of low hours is an outage: short, and far below all that was before it."""
    before = values[max(0, run.start - _BEFORE) : run.start]
    known = before[~np.isnan(before)]
    floor = float(np.quantile(known, 0.01)) if known.size >= _BEFORE // 4 else 0.0
    short = _LEAST_OUTAGE <= len(run) <= LONGEST_OUTAGE
    return short and floor > _LEAST_FLOOR * mean and float(np.max(values[run])) <= DEAD_SHARE * floor


def stuck(values: Floats) -> Ints:
    """Return the hours that repeat the very same number far longer than the series ever did before."""
    hours: list[int] = []
    usual = 1
    for repeats in _runs(np.concatenate([[False], values[1:] == values[:-1]])):
        lasts, late = len(repeats), repeats.start > _BEFORE // 2
        if late and lasts >= LEAST_STUCK and lasts > 3 * usual and values[repeats.start] > 0:
            hours += repeats[2:]
        usual = max(usual, lasts)
    return np.array(hours, dtype=np.int64)


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
    found = zip(panel.keys, map(_shift_in, panel.values, panel.has_event()), strict=True)
    return {key: Shift(since=panel.start + at[0] * HOUR, factor=at[1]) for key, at in found if at is not None}


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
    factors = {
        day: factor
        for day in range(max(_DAYS_BEFORE, count - _LOOK_BACK), count - _DAYS_AFTER + 1)
        if (factor := _factor(mean[day - _DAYS_BEFORE : day], mean[day:])) is not None
    }
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
