"""Demand paths drawn from a forecast's quantiles: whole days that may come, not one quantile everywhere.

Each series' quantile function is linear between its levels on the normal scale, so that a normal forecast is met
exactly and both tails go on as a normal's would, never below zero. The paths' order is a Gaussian copula: AR(1) over
hours plus a factor that all series share. Within each hour the paths stand at evenly spaced probabilities (ensemble
copula coupling, Schefzik, Thorarinsdottir and Gneiting 2013), so that few paths still have the forecast's spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gangplan.plan.problem.policy import HOUR_CORRELATION, SERIES_CORRELATION

Array = NDArray[np.float64]


def draw_paths(quantiles: Array, levels: Sequence[float], count: int, seed: int) -> Array:
    """Draw equally likely demand paths.

    Parameters
    ----------
    quantiles : GPUs, shape (series, hours, levels)
    count : number of paths

    Returns
    -------
    GPUs, shape (count, series, hours)
    """
    series, hours, _ = quantiles.shape
    order = _copula(count, series, hours, np.random.default_rng(seed)).argsort(axis=0).argsort(axis=0)
    normal = NormalDist()
    steps = np.array([normal.inv_cdf((rank + 0.5) / count) for rank in range(count)])
    knots = np.array([normal.inv_cdf(level) for level in levels])
    by_step = _quantile_function(np.maximum.accumulate(quantiles, axis=2), knots, steps)
    return np.take_along_axis(np.moveaxis(by_step, 2, 0), order, axis=0)


def _quantile_function(values: Array, knots: Array, at: Array) -> Array:
    """Evaluate each quantile function at normal scores `at`: linear between knots, the end slopes go on outside."""
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    weight = (at - knots[left]) / (knots[left + 1] - knots[left])
    return np.maximum(0.0, values[..., left] * (1 - weight) + values[..., left + 1] * weight)


def _copula(count: int, series: int, hours: int, generator: np.random.Generator) -> Array:
    """Give normal scores of shape (count, series, hours) with the correlation of the policy."""
    common = _walks(generator.standard_normal((count, 1, hours)))
    own = _walks(generator.standard_normal((count, series, hours)))
    return np.sqrt(SERIES_CORRELATION) * common + np.sqrt(1 - SERIES_CORRELATION) * own


def _walks(noise: Array) -> Array:
    """Turn white noise into AR(1) paths of unit variance along the last axis."""
    walks = noise.copy()
    for hour in range(1, noise.shape[-1]):
        kept = HOUR_CORRELATION * walks[..., hour - 1]
        walks[..., hour] = kept + np.sqrt(1 - HOUR_CORRELATION**2) * noise[..., hour]
    return walks
