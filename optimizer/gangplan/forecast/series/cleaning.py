"""Outages and stuck samples are taken out of telemetry before a model learns from it.

Three faults are found, and each is named in the panel's notes:
- dead: two hours or more at next to nothing, in a series that was never so low in the two weeks before. A collector or
  a cluster was down, and the hours count as missing; after more than two days it is taken for demand that is gone.
- stuck: the very same number for half a day or more, and three times as long as ever before. The hours count as
  missing, but for the first three.
- shifted: a level that moved (`shifts.py`). It is named only; the model decides what follows from it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gangplan.clock import HOUR
from gangplan.forecast.series.arrays import Floats, Ints
from gangplan.forecast.series.panel import Panel
from gangplan.forecast.series.shifts import shifts_of

DEAD_SHARE = 0.1
LONGEST_OUTAGE = 48
LEAST_STUCK = 12
_BEFORE = 336
_LEAST_OUTAGE = 2
_LEAST_FLOOR = 0.25  # of the mean: a series whose quiet hours lie below is not judged


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
    outages: list[int] = []
    run: list[int] = []
    mean = float(np.nanmean(values)) if (~np.isnan(values)).any() else 0.0
    for hour in np.flatnonzero(values <= DEAD_SHARE * mean):
        begun = run[0] if run and run[-1] == hour - 1 else int(hour)
        if begun == hour:
            outages += _outage(values, run, mean)
            run = []
        run.append(int(hour))
    return np.array([*outages, *_outage(values, run, mean)], dtype=np.int64)


def _outage(values: Floats, run: list[int], mean: float) -> list[int]:
    """Return a run of low hours when it is an outage: short, and far below all that was before it."""
    if not _LEAST_OUTAGE <= len(run) <= LONGEST_OUTAGE:
        return []
    before = values[max(0, run[0] - _BEFORE) : run[0]]
    known = before[~np.isnan(before)]
    floor = float(np.quantile(known, 0.01)) if known.size >= _BEFORE // 4 else 0.0
    low = float(np.max(values[run]))
    return run if floor > _LEAST_FLOOR * mean and low <= DEAD_SHARE * floor else []


def stuck(values: Floats) -> Ints:
    """Return the hours that repeat the very same number far longer than the series ever did before."""
    same = np.concatenate([[False], values[1:] == values[:-1]])
    length = np.zeros(values.size, dtype=np.int64)
    for hour in np.flatnonzero(same):
        length[hour] = length[hour - 1] + 1
    longest = np.maximum.accumulate(np.where(np.append(length[1:], 0) == 0, length, 0))
    hours: list[int] = []
    for end in np.flatnonzero((length >= LEAST_STUCK) & (np.append(length[1:], 0) == 0)):
        begun = int(end) - int(length[end])
        usual = int(longest[begun - 1]) if begun > 0 else int(length[end])
        if begun >= _BEFORE // 2 and values[end] > 0 and length[end] > 3 * max(usual, 1):
            hours += range(begun + 3, int(end) + 1)
    return np.array(hours, dtype=np.int64)
