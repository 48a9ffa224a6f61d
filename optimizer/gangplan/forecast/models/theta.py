"""The Theta method: fitted by statsforecast, then asked in NumPy for many series at once.

A forecast does not import statsforecast, which takes more than half a second and answers one series after the other.
Source: Fiorucci and others, Models for optimising the theta method and their relationship to state space models (2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from gangplan.forecast.libraries import uncollected
from gangplan.forecast.series import DAY, MEDIAN, Bools, Floats, known_mean, tidy
from gangplan.types import QUANTILES

THETA_HOURS = 840
_PATHS = 200  # as many as statsforecast's own intervals are of
_SEASONAL = 1.6448536269514722  # the 0.95 quantile of the normal distribution: the test for a season
_WARM_UP = 3  # hours whose errors do not count

State: TypeAlias = tuple[Floats, Floats, Floats, Floats]
"""Level, mean so far, intercept and slope of the trend, each series x 1 (or x paths)."""


@dataclass(frozen=True, kw_only=True)
class Theta:
    """A fitted Theta model: which of the four (STM, OTM, DSTM, DOTM), its smoothing factor, its theta."""

    variant: str = "STM"
    alpha: float = 0.5
    theta: float = 2.0


def fit_theta(values: Floats) -> Theta:
    """Fit all four variants to one series (GPUs by hour, no gap) with statsforecast, and take the best."""
    with uncollected():
        from statsforecast.theta import auto_theta  # pyright: ignore[reportUnknownVariableType]

    window = values[-THETA_HOURS:]
    if window.max() == window.min():
        return Theta()
    model = cast("dict[str, Any]", auto_theta(window, DAY))
    parameters: dict[str, float] = model["par"]
    return Theta(variant=model["modeltype"], alpha=float(parameters["alpha"]), theta=float(parameters["theta"]))


def theta_quantiles(values: Floats, horizon: int, fitted: list[Theta]) -> Floats:
    """Forecast series of one length (series x hours, no gap), each with its model (series x horizon x levels, GPUs)."""
    window = values[:, -THETA_HOURS:]
    hours = window.shape[1]
    season, factor = _season(window)
    plain = np.where(factor, window / np.where(factor, season, 1.0), window - season)
    alpha, theta = (np.array([[getattr(model, name)] for model in fitted]) for name in ("alpha", "theta"))
    dynamic = np.array([[model.variant.startswith("D")] for model in fitted])
    # The level of 840 hours ago is forgotten by now: any will do.
    state = _begin(plain, alpha * plain[:, :1] + (1 - alpha) * window[:, :1], dynamic)
    errors = plain[:, :1] * np.zeros(hours)
    for hour in range(1, hours):
        errors[:, [hour]] = plain[:, [hour]] - _expected(state, hour, alpha, theta)
        state = _updated(state, hour, plain[:, [hour]], alpha, dynamic)
    seasoned = np.where(factor, errors * season, errors + season)
    sd = seasoned[:, _WARM_UP:].std(axis=1, ddof=1, keepdims=True)
    rng = np.random.default_rng(0)
    level, _, intercept, slope = state
    middle, paths = state, (level, plain.mean(axis=1, keepdims=True), intercept, slope)
    quantiles = np.empty((len(values), horizon, len(QUANTILES)))
    for hour in range(hours, hours + horizon):
        mean = _expected(middle, hour, alpha, theta)
        middle = _updated(middle, hour, mean, alpha, dynamic)
        drawn = _expected(paths, hour, alpha, theta) + sd * rng.standard_normal(_PATHS)
        paths = _drawn(paths, hour, drawn, alpha)
        quantiles[:, hour - hours] = np.quantile(drawn, QUANTILES, axis=1).T
        quantiles[:, hour - hours, MEDIAN] = mean[:, 0]
    ahead = season[:, (hours + np.arange(horizon)) % DAY][:, :, None]
    quantiles = np.where(factor[:, :, None], quantiles * ahead, quantiles + ahead)
    constant = window.max(axis=1) == window.min(axis=1)
    quantiles[constant] = window[constant, -1][:, None, None]
    return tidy(quantiles)


def _season(window: Floats) -> tuple[Floats, Bools]:
    """Return each series' season by hour, and whether it is a factor (series x 1) or a summand; 0 without a season.

    A season is there where the autocorrelation at 24 hours is larger than chance makes it. It is the mean, by hour of
    the day, of what a centred moving average of 24 hours leaves.
    """
    hours = window.shape[1]
    about = window - window.mean(axis=1, keepdims=True)
    power = np.maximum((about**2).sum(axis=1), 1e-300)
    lags = range(1, DAY + 1)
    correlation = np.stack([(about[:, lag:] * about[:, :-lag]).sum(axis=1) / power for lag in lags], axis=1)
    limit = _SEASONAL * np.sqrt((1 + 2 * (correlation[:, :-1] ** 2).sum(axis=1)) / hours)
    seasonal = (np.abs(correlation[:, -1]) > limit)[:, None] & (hours >= 2 * DAY)
    sums = np.cumsum(np.pad(window, ((0, 0), (1, 0))), axis=1)
    whole = sums[:, DAY:] - sums[:, :-DAY]
    trend = np.full(window.shape, np.nan)
    trend[:, DAY // 2 : -(DAY // 2)] = (whole[:, :-1] + whole[:, 1:]) / (2 * DAY)
    positive = (window > 0).all(axis=1, keepdims=True)
    ratio = _by_hour(np.where(positive, window, 1.0) / np.where(positive, trend, 1.0))
    ratio /= ratio[:, :DAY].mean(axis=1, keepdims=True)
    factor = seasonal & positive & (ratio >= 0.01).all(axis=1, keepdims=True)
    rest = _by_hour(window - trend)
    rest -= rest[:, :DAY].mean(axis=1, keepdims=True)
    return np.where(factor, ratio, np.where(seasonal, rest, 0.0)), factor


def _by_hour(values: Floats) -> Floats:
    """Return the mean of each hour of the day, counted from the first hour, repeated over all hours."""
    days = -(-values.shape[1] // DAY)
    padded = np.pad(values, ((0, 0), (0, days * DAY - values.shape[1])), constant_values=np.nan)
    mean = known_mean(padded.reshape(len(values), days, DAY), axis=1)
    return np.tile(mean, days)[:, : values.shape[1]]


def _begin(plain: Floats, level: Floats, dynamic: Bools) -> State:
    """Return the state after the first hour: the trend is the regression on time, or is still to be learned."""
    hours = plain.shape[1]
    mean: Floats = plain.mean(axis=1, keepdims=True)
    moment: Floats = (np.arange(1, hours + 1, dtype=np.float64) * plain).mean(axis=1, keepdims=True)
    slope = np.where(dynamic, 0.0, 6 * (2 * moment - (1 + hours) * mean) / (hours**2 - 1))
    intercept = np.where(dynamic, plain[:, :1], mean - (hours + 1) * slope / 2)
    return level, plain[:, :1], intercept, slope


def _expected(state: State, hour: int, alpha: Floats, theta: Floats) -> Floats:
    """Return what the next hour is expected to be."""
    level, _, intercept, slope = state
    kept = 1 - alpha
    return level + (1 - 1 / theta) * (intercept * kept**hour + slope * (1 - kept ** (hour + 1)) / alpha)


def _updated(state: State, hour: int, value: Floats, alpha: Floats, dynamic: Bools) -> State:
    """Return the state after an hour; the trend of a static variant stays."""
    level, mean, intercept, slope = state
    new_mean = (hour * mean + value) / (hour + 1)
    new_slope = ((hour - 1) * slope + 6 * (value - mean) / (hour + 1)) / (hour + 2)
    new_intercept = new_mean - new_slope * (hour + 2) / 2
    trend = np.where(dynamic, new_intercept, intercept), np.where(dynamic, new_slope, slope)
    return alpha * value + (1 - alpha) * level, new_mean, *trend


def _drawn(state: State, hour: int, value: Floats, alpha: Floats) -> State:
    """Return the state of drawn paths after an hour; as in statsforecast, the trend follows in every variant."""
    level, mean, _, slope = state
    mean = (hour * mean + value) / (hour + 1)
    slope = ((hour - 1) * slope + 6 * (value - mean) / (hour + 1)) / (hour + 2)
    return alpha * value + (1 - alpha) * level, mean, mean - slope * (hour + 2) / 2, slope
