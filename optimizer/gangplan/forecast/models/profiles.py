"""The bases that the trees correct: forecasts from the cycle of days and weeks alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gangplan.forecast.models.features import History, back
from gangplan.forecast.models.naive import between_knots, knots_of, late_mean
from gangplan.forecast.series import DAY, WEEK, Floats, Ints, ratio

_HALF_LIFE_DAYS = 4.0
_RECENT = 0.2
_MOVED = 0.5
_LOSS_HOURS = 2 * WEEK
_LOSS_STEP = 5  # hours between the targets that are looked at: in five days all hours of the day

Profile = Callable[[History, Ints, Ints, Ints], Floats]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A base and the scale on which trees correct it; on that of the root, busy hours count less beside quiet ones."""

    profile: Profile
    root: bool

    def forward(self, values: Floats) -> Floats:
        """Bring demand (in units of its level) to the scale."""
        return np.sqrt(values) if self.root else values

    def backward(self, values: Floats) -> Floats:
        """Bring it back."""
        return np.maximum(values, 0.0) ** 2 if self.root else values


def recent_days(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """Half the same hour's mean over seven days, where recent ones weigh more, half last week's same hour."""
    days, week = _days(history, series, origin, horizon), _week(history, series, origin, horizon)
    return _first_known((days + week) / 2, days, week, history.last[series, origin])


def last_week(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """Mostly last week's same hour, moved by half the change of level since then."""
    then = np.where(origin >= WEEK, history.mean(series, np.maximum(origin - WEEK, 0), DAY), np.nan)
    change = np.nan_to_num(history.mean(series, origin, DAY) - then)
    days = _days(history, series, origin, horizon)
    moved = _week(history, series, origin, horizon) + _MOVED * change
    return _first_known(_RECENT * days + (1 - _RECENT) * moved, days, moved, history.last[series, origin])


CORRECTIONS = (
    Correction(profile=recent_days, root=True),
    Correction(profile=recent_days, root=False),
    Correction(profile=last_week, root=True),
)
"""Their forecasts are averaged; none is chosen."""


def late_losses(histories: tuple[History, ...], series: Ints, horizon: int) -> Floats:
    """Return the recent absolute error of the mean of all profiles, uncorrected (series x horizon, GPUs of the level).

    Parameters
    ----------
    histories
        One for each of `CORRECTIONS`, on its scale.
    """
    knots, hours = knots_of(horizon), histories[0].panel.hours
    target = np.arange(hours - 1, max(DAY, hours - 1 - _LOSS_HOURS), -_LOSS_STEP)[::-1]
    grid = np.meshgrid(series, knots, target, indexing="ij")
    seen = grid[2] - grid[1] >= DAY
    rows, steps, came = (axis[seen] for axis in grid)
    profile = np.zeros(rows.size)
    for correction, history in zip(CORRECTIONS, histories, strict=True):
        base = correction.profile(history, rows, came - steps, steps)
        profile += correction.backward(base) / len(CORRECTIONS)
    lost = np.full(seen.shape, np.nan)
    lost[seen] = np.abs(CORRECTIONS[0].backward(histories[0].values[rows, came]) - profile)
    means = late_mean(lost.reshape(-1, target.size), _LOSS_STEP)
    return between_knots(horizon, means.reshape(series.size, knots.size, 1))[:, :, 0]


def _days(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """The same hour's weighted mean over the seven days before the origin."""
    newest = origin + horizon - back(horizon, DAY)
    total, weights = np.zeros(series.size), np.zeros(series.size)
    for day in range(7):
        value = history.at(series, newest - DAY * day)
        weight = 2.0 ** (-day / _HALF_LIFE_DAYS) * ~np.isnan(value)
        total += np.nan_to_num(value) * weight
        weights += weight
    return ratio(total, weights)


def _week(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """The same hour a week before, or more weeks where that is not known yet."""
    return history.at(series, origin + horizon - back(horizon, WEEK))


def _first_known(*candidates: Floats) -> Floats:
    """Take, row by row, the first candidate that is known."""
    chosen = candidates[0]
    for other in candidates[1:]:
        chosen = np.where(np.isnan(chosen), other, chosen)
    return chosen
