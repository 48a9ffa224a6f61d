"""The forecast of demand that drifts: the last value less the jobs that will have ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gangplan.forecast.models.naive import between_knots, knots_of, late_mean
from gangplan.forecast.models.survival import Hazard, survivors
from gangplan.forecast.series import MEDIAN, Floats, Ints, Panel, tidy
from gangplan.types import QUANTILES

WINDOW = 336  # hours whose errors set the spread
SLOPE_HOURS = 1344
_PRIOR = 4.0  # windows
_NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class HeldForecast:
    """A forecast from the GPUs held now.

    quantiles : series x horizon x levels, in GPUs.
    losses : its mean absolute error of late, series x horizon; NaN where no error is known.
    """

    quantiles: Floats
    losses: Floats


def forecast_held(panel: Panel, last: Floats, series: Ints, hazard: Hazard | None, horizon: int) -> HeldForecast:
    """Forecast last value + c x (survivors - last value), with the quantiles of its own past errors.

    c, from 0 to 1 for each series and horizon, is the regression of past changes on past expected losses. It is shrunk
    towards the c of the next shorter horizon, as if four more independent windows had shown that one; for the first
    horizon towards 0, which is the last value. Without job records it is 0 throughout.
    """
    knots = knots_of(horizon)
    first = max(0, panel.hours - SLOPE_HOURS)
    values, known = panel.values[series, first:], last[series, first:]
    losing = _expected_losses(panel, known, series, hazard, first, knots)
    changes, losses = np.zeros((series.size, knots.size, len(QUANTILES))), np.empty((series.size, knots.size, 1))
    slope, spread = np.zeros((series.size, 1)), changes[:, 0]
    for place, ahead in enumerate(knots):
        moved = values[:, ahead:] - known[:, :-ahead]
        lost = losing[:, : moved.shape[1], place]
        slope = _slope(lost, moved, int(ahead), slope)
        errors = (moved - slope * lost)[:, -WINDOW:]
        spread = _spread(errors, int(ahead), spread)
        changes[:, place] = slope * losing[:, -1:, place] + spread
        losses[:, place, 0] = late_mean(np.abs(errors - spread[:, [MEDIAN]]))
    quantiles = tidy(known[:, -1, None, None] + between_knots(horizon, changes))
    return HeldForecast(quantiles=quantiles, losses=between_knots(horizon, losses)[:, :, 0])


def _expected_losses(
    panel: Panel, known: Floats, series: Ints, hazard: Hazard | None, first: int, ahead: Ints
) -> Floats:
    """Return the change by GPUs given back after each hour from `first` on (series x hours x ahead; negative, GPUs)."""
    if hazard is None or panel.jobs is None:
        return np.zeros((*known.shape, ahead.size))
    return survivors(panel.jobs, hazard, panel.values.shape, first, ahead)[series] - known[:, :, None]


def _slope(lost: Floats, moved: Floats, ahead: int, before: Floats) -> Floats:
    """Regress changes on expected losses, shrunk to `before` by the number of windows that do not overlap."""
    known = ~np.isnan(moved)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    about = np.where(known, lost - np.where(known, lost, 0.0).sum(axis=1, keepdims=True) / count, 0.0)
    power = (about**2).sum(axis=1, keepdims=True)
    both = (about * np.nan_to_num(moved)).sum(axis=1, keepdims=True)
    tells = power > _NOTHING
    slope = np.clip(np.divide(both, power, out=np.zeros_like(both), where=tells), 0.0, 1.0)
    windows = np.where(tells, count / ahead, 0.0)
    return (slope * windows + before * _PRIOR) / (windows + _PRIOR)


def _spread(errors: Floats, ahead: int, before: Floats) -> Floats:
    """Return quantiles of past errors, or `before` where none is known (series x levels).

    With errors of n windows that do not overlap, the spread is widened by sqrt(1 + 4 / n): few windows lie closer to
    each other than the next one will lie to them, and their scale is uncertain.
    """
    counts = (~np.isnan(errors)).sum(axis=1)
    spread = before.copy()
    known = counts > 0
    if known.any():
        complete = bool((counts == errors.shape[1]).all())
        quantiles = (np.quantile if complete else np.nanquantile)(errors[known], QUANTILES, axis=1).T
        median = quantiles[:, [MEDIAN]]
        wider = np.sqrt(1.0 + _PRIOR * ahead / counts[known])[:, None]
        spread[known] = median + wider * (quantiles - median)
    return spread
