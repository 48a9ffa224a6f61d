"""Forecasts without a model: repeat the past, and spread it by the errors that this made before.

Seasonal naive is the bar that every model has to clear. Its average with the last value is the forecast of series that
cannot be learned.
"""

from __future__ import annotations

import numpy as np

from gangplan.forecast.series import DAY, MEDIAN, WEEK, Floats, Ints, Panel, carried_forward, ratio
from gangplan.types import QUANTILES

ERROR_HOURS = 8 * WEEK
LOSS_HALF_LIFE = 4 * DAY  # members are weighed by how they did of late
MIN_ERRORS = 24
SHARPNESS = 8  # a member with twice the loss gets a 256th of the weight
# With too few errors to go by: the spread as a share of the point, wide on purpose.
WIDE = np.array([-0.6, 0.0, 0.8, 1.2, 2.0])
_NOTHING = 1e-9
# Each day with its middle: at whole days alone the last value of a daily cycle would seem to know all.
_KNOTS = (1, 2, 3, 4, 6, 8, 12, 18, *range(24, 169, 6), 180, 336, 348, 672, 684, 1344, 1356)


def seasonal_point(panel: Panel, horizon: int) -> Floats:
    """Repeat the same hour of last week; where that is unknown of earlier weeks, then days, then the last value.

    In GPUs (series x horizon); 0 for a series without any observed hour.
    """
    target = panel.hours + np.arange(horizon)
    point = np.full((len(panel.keys), horizon), np.nan)
    for period, tries in ((WEEK, 4), (DAY, 7)):
        back = -(-(np.arange(horizon) + 1) // period) * period
        for earlier in range(tries):
            point = np.where(np.isnan(point), _at(panel.values, target - back - period * earlier), point)
    return np.nan_to_num(np.where(np.isnan(point), _last_known(panel), point))


def seasonal_quantiles(panel: Panel, horizon: int) -> Floats:
    """Seasonal naive with the quantiles of its own past errors about it (series x horizon x levels)."""
    point = seasonal_point(panel, horizon)
    weeks = -(-(np.arange(horizon) + 1) // WEEK)
    weekly = np.stack([_offsets(panel, int(week) * WEEK) for week in range(1, weeks[-1] + 1)], axis=1)
    # Where the past is too short for weeks, the errors of yesterday's same hour.
    offsets = np.where(np.isnan(weekly), _offsets(panel, DAY)[:, None], weekly)
    return _spread(point, offsets[:, weeks - 1])


def last_value_quantiles(panel: Panel, horizon: int) -> Floats:
    """The last observed value with the quantiles of its own past errors at each horizon (series x horizon x levels)."""
    point = np.repeat(np.nan_to_num(_last_known(panel)), horizon, axis=1)
    offsets = np.stack([_offsets(panel, int(knot)) for knot in knots_of(horizon)], axis=1)
    return _spread(point, between_knots(horizon, offsets))


def average_quantiles(panel: Panel, horizon: int) -> Floats:
    """The average of both by `drift_weights` (series x horizon x levels)."""
    weight = drift_weights(panel, horizon)[:, :, None]
    return weight * last_value_quantiles(panel, horizon) + (1 - weight) * seasonal_quantiles(panel, horizon)


def drift_weights(panel: Panel, horizon: int) -> Floats:
    """Return how far to trust the last value rather than last week's same hour (series x horizon, from 0 to 1)."""
    weeks = -(-(np.arange(horizon) + 1) // WEEK)
    cycle = np.stack([_late_loss(panel, int(week) * WEEK) for week in range(1, weeks[-1] + 1)], axis=1)
    drift = np.stack([_late_loss(panel, int(knot)) for knot in knots_of(horizon)], axis=1)
    return share(between_knots(horizon, drift[:, :, None])[:, :, 0], cycle[:, weeks - 1])


def share(drift: Floats, cycle: Floats) -> Floats:
    """The weight of a forecast that drifts beside one that has a cycle, by what both lost of late; never a choice.

    A loss is taken as its mean over the day of horizons about it: at 24 hours the last value has a cycle too. Half of
    the evidence is the horizon's own, half that of all: long horizons have seen few windows that do not overlap. Both
    are mean absolute errors (series x horizon, NaN where unknown). The weight goes from 0 (the cycle alone) to 1; it is
    one half where a loss is unknown, or both are nothing.
    """
    odds = np.nan_to_num(np.log(_over_a_day(cycle) + _NOTHING) - np.log(_over_a_day(drift) + _NOTHING))
    pooled = (odds + odds.mean(axis=1, keepdims=True)) / 2
    return 1.0 / (1.0 + np.exp(-np.clip(SHARPNESS * pooled, -50.0, 50.0)))


def late_mean(losses: Floats, apart: int = 1) -> Floats:
    """Return the mean of known losses (series x times, `apart` hours between them); four days older weighs half."""
    known = ~np.isnan(losses)
    ages = apart * np.arange(losses.shape[1] - 1, -1, -1, dtype=np.float64)
    weight: Floats = known * np.exp2(-ages / LOSS_HALF_LIFE)
    total: Floats = weight.sum(axis=1)
    lost: Floats = (np.nan_to_num(losses) * weight).sum(axis=1)
    return ratio(lost, total)


def _over_a_day(losses: Floats) -> Floats:
    """Mean of the horizons less than 12 hours from each, fewer near the first (series x horizon)."""
    horizon = losses.shape[1]
    step: Ints = np.arange(horizon, dtype=np.int64)
    reach = np.minimum(step, DAY // 2)
    running = np.concatenate([np.zeros((losses.shape[0], 1)), losses.cumsum(axis=1)], axis=1)
    low, high = step - reach, np.minimum(step + reach + 1, horizon)
    return (running[:, high] - running[:, low]) / (high - low)


def knots_of(horizon: int) -> Ints:
    """Return the horizons at which slowly changing things are worked out, `horizon` last."""
    return np.array([*(knot for knot in _KNOTS if knot < horizon), horizon])


def between_knots(horizon: int, tables: Floats) -> Floats:
    """Draw lines between what is known at `knots_of(horizon)` (series x knots x columns), for every horizon."""
    knots, steps = knots_of(horizon), np.arange(1, horizon + 1)
    lines = np.empty((tables.shape[0], horizon, tables.shape[2]))
    for series, column in np.ndindex(tables.shape[0], tables.shape[2]):
        lines[series, :, column] = np.interp(steps, knots, tables[series, :, column])
    return lines


def _last_known(panel: Panel) -> Floats:
    """Return the last known value of each series (series x 1); NaN where there is none."""
    return carried_forward(panel.values)[:, [-1]]


def _errors(panel: Panel, lag: int) -> Floats:
    """Return y(t) - y(t - lag) of the last `ERROR_HOURS` (series x hours)."""
    recent = panel.values[:, -(ERROR_HOURS + lag) :]
    return recent[:, lag:] - recent[:, :-lag]


def _offsets(panel: Panel, lag: int) -> Floats:
    """Return quantiles of y(t) - y(t - lag) about their median (series x levels); NaN with too few to go by."""
    offsets = np.full((len(panel.keys), len(QUANTILES)), np.nan)
    for series, row in enumerate(_errors(panel, lag)):
        errors = row[~np.isnan(row)]
        if errors.size >= MIN_ERRORS:
            offsets[series] = np.quantile(errors, QUANTILES)
    return offsets - offsets[:, [MEDIAN]]


def _late_loss(panel: Panel, lag: int) -> Floats:
    """Mean absolute error of y(t - lag) of late, by series; NaN with too few to go by."""
    errors = np.abs(_errors(panel, lag))
    return np.where((~np.isnan(errors)).sum(axis=1) >= MIN_ERRORS, late_mean(errors), np.nan)


def _spread(point: Floats, offsets: Floats) -> Floats:
    """Put offsets about a point forecast; where none are known, wide ones."""
    known = np.where(np.isnan(offsets), point[:, :, None] * WIDE, offsets)
    return np.maximum(0.0, point[:, :, None] + known)


def _at(values: Floats, hours: Ints) -> Floats:
    """Return demand at those hours; NaN outside the panel."""
    inside = (hours >= 0) & (hours < values.shape[1])
    return np.where(inside, values[:, np.where(inside, hours, 0)], np.nan)
