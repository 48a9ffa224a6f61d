"""Forecasts without a model: repeat the past, and spread it by the errors that this made before.

Seasonal naive is the bar that every model has to clear, the fall-back of series that cannot be learned, and with the
last value a member of the average that the champion is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gangplan.forecast.panel import Floats, Panel
from gangplan.types import QUANTILES

DAY, WEEK = 24, 168
ERROR_HOURS = 8 * WEEK
MIN_ERRORS = 24
SHARPNESS = 4  # twice the loss: a sixteenth of the weight
# With too few errors to go by: the spread as a share of the point, wide on purpose.
WIDE = np.array([-0.6, 0.0, 0.8, 1.2, 2.0])
_MEDIAN = QUANTILES.index(0.5)
_KNOTS = (1, 2, 3, 4, 6, 8, 12, 18, 24, 30, 36, 48, 60, 72, 96, 120, 144, 168, 336, 672, 1344)


def seasonal_point(panel: Panel, horizon: int) -> Floats:
    """Repeat the same hour of last week; where that is unknown of earlier weeks, then days, then the last value.

    Returns
    -------
    series x horizon, GPUs; 0 for a series without any observed hour.
    """
    target = panel.hours + np.arange(horizon)
    point = np.full((len(panel.keys), horizon), np.nan)
    for period, tries in ((WEEK, 4), (DAY, 7)):
        back = -(-(np.arange(horizon) + 1) // period) * period
        for earlier in range(tries):
            point = _fill(point, _at(panel.values, target - back - period * earlier))
    return np.nan_to_num(_fill(point, last_observed(panel)[:, None]))


def seasonal_quantiles(panel: Panel, horizon: int) -> Floats:
    """Seasonal naive with the quantiles of its own past errors about it (series x horizon x levels)."""
    point = seasonal_point(panel, horizon)
    weeks = -(-(np.arange(horizon) + 1) // WEEK)
    offsets = np.stack([_seasonal_offsets(panel, int(week)) for week in range(1, weeks[-1] + 1)], axis=1)
    return _spread(point, offsets[:, weeks - 1])


def last_value_quantiles(panel: Panel, horizon: int) -> Floats:
    """The last observed value with the quantiles of its own past errors at each horizon (series x horizon x levels)."""
    point = np.repeat(np.nan_to_num(last_observed(panel))[:, None], horizon, axis=1)
    return _spread(point, _between_knots(horizon, lambda knot: _offsets(panel, knot)))


def average_quantiles(panel: Panel, horizon: int) -> Floats:
    """The average of both, weighted by their own past losses, per series and horizon.

    The last value speaks for what drifts and last week for what has a cycle, and neither is ever chosen outright.
    """
    weekly = np.stack([_loss(panel, (1 + step // WEEK) * WEEK) for step in range(horizon)], axis=1)
    last = _between_knots(horizon, lambda knot: _loss(panel, knot)[:, None])[:, :, 0]
    weight = _weight(last, weekly)[:, :, None]
    return weight * last_value_quantiles(panel, horizon) + (1 - weight) * seasonal_quantiles(panel, horizon)


def last_observed(panel: Panel) -> Floats:
    """The last observed value of each series; NaN where there is none."""
    found = np.full(len(panel.keys), np.nan)
    for series, row in enumerate(panel.values):
        known = np.flatnonzero(~np.isnan(row))
        if known.size:
            found[series] = row[known[-1]]
    return found


def _seasonal_offsets(panel: Panel, weeks: int) -> Floats:
    """Error quantiles of the same hour `weeks` weeks ago, or of yesterday where that is too short a past."""
    weekly = _offsets(panel, weeks * WEEK)
    return np.where(np.isnan(weekly), _offsets(panel, DAY), weekly)


def _between_knots(horizon: int, at_knot: Callable[[int], Floats]) -> Floats:
    """Work a table (series x columns) out at some horizons and draw lines between (series x horizon x columns)."""
    knots = [*(knot for knot in _KNOTS if knot < horizon), horizon]
    tables = np.stack([at_knot(knot) for knot in knots], axis=1)
    steps = np.arange(1, horizon + 1)
    found = np.empty((tables.shape[0], horizon, tables.shape[2]))
    for series, column in np.ndindex(tables.shape[0], tables.shape[2]):
        found[series, :, column] = np.interp(steps, knots, tables[series, :, column])
    return found


def _errors(panel: Panel, lag: int) -> list[Floats]:
    """What y(t) - y(t - lag) was in the last weeks, for each series."""
    recent = panel.values[:, -(ERROR_HOURS + lag) :]
    return [row[~np.isnan(row)] for row in recent[:, lag:] - recent[:, :-lag]]


def _offsets(panel: Panel, lag: int) -> Floats:
    """Quantiles of y(t) - y(t - lag) about their median (series x levels); NaN with too few to go by."""
    found = np.full((len(panel.keys), len(QUANTILES)), np.nan)
    for series, errors in enumerate(_errors(panel, lag)):
        if errors.size >= MIN_ERRORS:
            found[series] = np.quantile(errors, QUANTILES)
    return found - found[:, [_MEDIAN]]


def _loss(panel: Panel, lag: int) -> Floats:
    """Mean absolute error of y(t - lag) by series; NaN with too few to go by."""
    errors = _errors(panel, lag)
    return np.array([np.abs(row).mean() if row.size >= MIN_ERRORS else np.nan for row in errors])


def _weight(loss: Floats, other: Floats) -> Floats:
    """The share of the first of two members; one half where a loss is unknown, or both are nothing."""
    mine, theirs = other**SHARPNESS, loss**SHARPNESS  # the smaller my loss, the larger my share
    total = mine + theirs
    return np.divide(mine, total, out=np.full(total.shape, 0.5), where=total > 0)


def _spread(point: Floats, offsets: Floats) -> Floats:
    """Put offsets about a point forecast; where none are known, wide ones."""
    known = np.where(np.isnan(offsets), point[:, :, None] * WIDE, offsets)
    return np.maximum(0.0, point[:, :, None] + known)


def _fill(values: Floats, others: Floats) -> Floats:
    """Take others where values are unknown."""
    return np.where(np.isnan(values), others, values)


def _at(values: Floats, hours: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """Demand at those hours; NaN outside the panel."""
    inside = (hours >= 0) & (hours < values.shape[1])
    return np.where(inside, values[:, np.where(inside, hours, 0)], np.nan)
