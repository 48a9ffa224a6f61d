# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""What demand that drifts does next: the Theta method, and the last value less the jobs that will have ended."""

from __future__ import annotations

from typing import Any

import numpy as np

from gangplan.forecast.arrays import Floats, Ints, tidy
from gangplan.forecast.naive import between_knots, knots_of
from gangplan.forecast.panel import Panel
from gangplan.forecast.survival import Hazard, survivors
from gangplan.types import QUANTILES

WINDOW = 336  # hours whose errors set the spread
SLOPE_HOURS = 1344
THETA_HOURS = 840
SEASON = 24
_PRIOR = 4.0
_NAMES = ("lo-80", "mean", "hi-80", "hi-90", "hi-98")  # the levels of types.QUANTILES, as statsforecast calls them


def held_quantiles(panel: Panel, last: Floats, series: Ints, hazard: Hazard | None, horizon: int) -> Floats:
    """Forecast last value + c x (survivors - last value), with the quantiles of its own past errors.

    c, from 0 to 1 for each series and horizon, is the regression of past changes on past expected losses, shrunk to 0
    (the last value) as if four more independent windows had shown no effect. Without job records it is 0.

    Returns
    -------
    series x horizon x levels, in GPUs.
    """
    knots = knots_of(horizon)
    first = max(0, panel.hours - SLOPE_HOURS)
    values, known = panel.values[series, first:], last[series, first:]
    loss = np.zeros((*known.shape, knots.size))
    if hazard is not None and panel.jobs is not None:
        loss = survivors(panel.jobs, hazard, panel.values.shape, first, knots)[series] - known[:, :, None]
    made = np.empty((series.size, knots.size, len(QUANTILES)))
    for row in range(series.size):
        for place, ahead in enumerate(knots):
            moved = values[row, ahead:] - known[row, :-ahead]
            lost = loss[row, : moved.size, place]
            slope = _slope(lost, moved, int(ahead))
            errors = (moved - slope * lost)[-WINDOW:]
            made[row, place] = slope * loss[row, -1, place] + np.nanquantile(errors, QUANTILES)
    return tidy(known[:, -1, None, None] + between_knots(horizon, made))


def theta_quantiles(values: Floats, horizon: int, variant: str | None) -> tuple[Floats, str]:
    """Forecast one series (hours, no gap) with statsforecast's Theta method and its intervals.

    Source: Fiorucci and others, Models for optimising the theta method and their relationship to state space models
    (2016).

    Parameters
    ----------
    variant
        Which of the four Theta models; none to choose one by its fit.

    Returns
    -------
    horizon x levels, in GPUs; and the variant.
    """
    from statsforecast.models import AutoTheta  # slow to import, and not always asked

    window = values[-THETA_HOURS:]
    if window.max() == window.min():
        return np.full((horizon, len(QUANTILES)), window[-1]), variant or "STM"
    fitted: Any = AutoTheta(season_length=SEASON, model=variant).fit(window)
    said: dict[str, Floats] = fitted.predict(h=horizon, level=[80, 90, 98])
    return tidy(np.stack([said[name] for name in _NAMES], axis=-1)), str(fitted.model_["modeltype"])


def _slope(lost: Floats, moved: Floats, ahead: int) -> float:
    """Regress changes on expected losses, shrunk by the number of windows that do not overlap."""
    known = ~np.isnan(moved)
    lost, moved = lost[known], moved[known]
    if lost.size < 12:
        return 0.0
    about = lost - lost.mean()
    power = float((about**2).sum())
    if power <= 1e-12:
        return 0.0
    windows = lost.size / ahead
    slope = float((about * (moved - moved.mean())).sum()) / power
    return float(np.clip(slope * windows / (windows + _PRIOR), 0.0, 1.0))
