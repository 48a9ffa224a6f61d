"""Hours that stand out (spikes and drops), judged when they are over, at a stated rate of false alarms.

An hour is expected to be the average of four simple forecasts of it (the last value, moved or pulled back by the same
hour's median of seven days), weighed by their recent errors. Its error, on the scale of the square root, is divided by
the usual error of that hour of the day, so that a quiet night is judged by nights. That is its score. It alarms when it
lies above all but the stated share of the last four weeks' scores (split conformal prediction), so that heavy-tailed
noise alarms no more often than other noise. Scores of at least twice the threshold are no noise: they do not raise it.

Sources: Vovk and others, Algorithmic learning in a random world (2005), for the calibration; Siffer and others, Anomaly
detection in streams with extreme value theory (2017), for leaving out what has alarmed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np

from gangplan.forecast.series import DAY, WEEK, Bools, Floats, Panel, carried_forward, known_mean, ratio

FALSE_HOURS_PER_WEEK = 0.5
"""Hours a week, of a series without any spike, that alarm on either side."""

CALIBRATION = 4 * WEEK
LEAST = 96  # scores before the first alarm
CLEAR = 2.0
_RECENT = 2 * WEEK  # hours whose errors weigh the four forecasts
_SHARPNESS = 4
_DAYS = 14  # whose same hour, with the hours beside it, gives the usual error of that hour
_SHARE_OF_ALL = 0.4  # of the usual error of all hours in the scale; the rest is the same hour's


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Every hour of a panel as it looked when it was over; all arrays are series x hours.

    expected : GPUs, from the hours before.
    score : the error in units of that hour's usual error, on the scale of the root; NaN where there is none.
    above, below : the score at which a spike is alarmed, and the negative one at which a drop is; infinite early on.
    """

    expected: Floats
    score: Floats
    above: Floats
    below: Floats

    @property
    def spikes(self) -> Bools:
        """The hours that stand out upwards."""
        return self.score > self.above

    @property
    def drops(self) -> Bools:
        """The hours that stand out downwards."""
        return self.score < self.below


def watch(panel: Panel, *, false_hours_per_week: float = FALSE_HOURS_PER_WEEK) -> Watch:
    """Judge every hour of the panel by the hours before it alone.

    So many hours a week may alarm, on each side, where nothing but the usual noise is.
    """
    level = _level(panel.values)
    root = np.sqrt(panel.values / level)
    guess = _expected(np.sqrt(carried_forward(panel.values) / level), root)
    miss = np.where(_seen(panel.values) > WEEK, root - guess, np.nan)
    score = miss / _usual(np.abs(miss))
    expected = level * np.maximum(guess, 0.0) ** 2
    share = false_hours_per_week / WEEK
    return Watch(
        expected=expected,
        score=score,
        above=np.stack([_thresholds(row, share) for row in score]),
        below=-np.stack([_thresholds(-row, share) for row in score]),
    )


def _seen(values: Floats) -> Floats:
    """Hours since each series' first known one, that one included."""
    return np.cumsum(np.cumsum(~np.isnan(values), axis=1) > 0, axis=1).astype(np.float64)


def _level(values: Floats) -> Floats:
    """Return the mean of each series' first known week, by which it is scaled: a constant that looks not ahead."""
    first = np.where(np.cumsum(~np.isnan(values), axis=1) <= WEEK, values, np.nan)
    mean = known_mean(first, axis=1)[:, None]
    return np.where(mean > 0, mean, 1.0)


def _expected(last: Floats, root: Floats) -> Floats:
    """Average four forecasts of each hour from the hours before, weighed by their errors of the last two weeks."""
    before, profile = _earlier(last, 1), np.median([_earlier(last, DAY * day) for day in range(1, 8)], axis=0)
    apart = before - _earlier(profile, 1)
    candidates = np.stack([before, profile + apart, profile + apart / 2, profile])
    known = ~np.isnan(candidates)
    candidates = np.where(known, candidates, before)  # the first week knows no profile
    miss = np.abs(root - candidates)
    weight = np.stack([_mean_before(candidate, _RECENT) for candidate in miss]) + 1e-9
    weight = np.where(np.isnan(weight), 1.0, weight) ** -float(_SHARPNESS)
    return (weight * candidates).sum(axis=0) / weight.sum(axis=0)


def _usual(miss: Floats) -> Floats:
    """Return the usual error of each hour from before it: of four weeks, and of about that hour on 14 days."""
    everything = _mean_before(miss, CALIBRATION, DAY)
    known = ~np.isnan(miss)
    total, count = np.zeros_like(miss), np.zeros_like(miss)
    for day in range(1, _DAYS + 1):
        for beside in (DAY * day - 1, DAY * day, DAY * day + 1):
            total += _earlier(np.where(known, miss, 0.0), beside, 0.0)
            count += _earlier(known.astype(np.float64), beside, 0.0)
    of_hour = np.divide(total, count, out=everything.copy(), where=count > 5)
    return np.maximum(_SHARE_OF_ALL * everything + (1 - _SHARE_OF_ALL) * of_hour, 1e-6)


def _thresholds(score: Floats, share: float) -> Floats:
    """Return the threshold of each hour: the score that at most `share` of the last four weeks' scores passed."""
    thresholds = np.full(score.size, np.inf)
    window: deque[float] = deque()
    ranked: list[float] = []
    for hour, value in enumerate(score):
        if len(ranked) >= LEAST:
            thresholds[hour] = ranked[-max(1, int(share * (len(ranked) + 1)))]
        noise = not np.isnan(value) and not value > CLEAR * thresholds[hour] > 0
        window.append(value if noise else np.nan)
        if noise:
            insort(ranked, value)
        gone = window.popleft() if len(window) > CALIBRATION else np.nan
        if not np.isnan(gone):
            del ranked[bisect_left(ranked, gone)]
    return thresholds


def _earlier(values: Floats, hours: int, fill: float = np.nan) -> Floats:
    """Return the values of so many hours before, row by row."""
    moved = np.full_like(values, fill)
    moved[:, hours:] = values[:, :-hours]
    return moved


def _mean_before(values: Floats, width: int, least: int = 1) -> Floats:
    """Return the mean of the known among the `width` hours before each; NaN where fewer than `least` are known."""
    known = ~np.isnan(values)
    sums = (np.cumsum(np.where(known, values, 0.0), axis=1), np.cumsum(known.astype(np.float64), axis=1))
    total, count = (_earlier(running, 1, 0.0) - _earlier(running, width + 1, 0.0) for running in sums)
    return ratio(total, count, above=least - 1)
