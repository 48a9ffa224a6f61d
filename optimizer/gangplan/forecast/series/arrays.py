"""Array types, and the few operations on arrays that all rooms of the forecast share."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gangplan.types import QUANTILES

Key: TypeAlias = tuple[str, str, str]
"""tenant, workload class, accelerator"""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

DAY, WEEK = 24, 168
"""Hours."""

MEDIAN = QUANTILES.index(0.5)
"""The place of the median among the levels."""


def tidy(quantiles: Floats) -> Floats:
    """Sort along the levels (the last axis) and clip at 0: demand is never negative."""
    return np.maximum(0.0, np.sort(quantiles, axis=-1))


def widen(quantiles: Floats, factor: float, ramp: float) -> Floats:
    """Move quantiles (series x horizon x levels) off their median by a factor that is reached after `ramp` steps."""
    growth = 1.0 + (factor - 1.0) * np.minimum(np.arange(quantiles.shape[1], dtype=np.float64) / ramp, 1.0)
    median = quantiles[:, :, [MEDIAN]]
    return median + growth[:, None] * (quantiles - median)


def normal_scores(levels: Floats) -> Floats:
    """Return the quantiles of the standard normal distribution at these levels, each between 0 and 1."""
    return np.array([NormalDist().inv_cdf(level) for level in levels.tolist()], dtype=np.float64)


def ratio(total: NDArray[Any], count: NDArray[Any], above: float = 0) -> Floats:
    """Divide; NaN where the count is not above `above`."""
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > above)


def known_mean(values: Floats, axis: int, above: float = 0) -> Floats:
    """Return the mean of the known values along an axis; NaN where not more than `above` are known."""
    known = ~np.isnan(values)
    count: Ints = known.sum(axis=axis)
    total: Floats = np.where(known, values, 0.0).sum(axis=axis)
    return ratio(total, count, above)


def carried_forward(values: Floats) -> Floats:
    """Fill missing hours with the last known value before them (series x hours); NaN before the first known one."""
    observed = ~np.isnan(values)
    hours: Ints = np.arange(values.shape[1], dtype=np.int64)
    place: Ints = np.maximum.accumulate(np.where(observed, hours, 0), axis=1)
    return np.take_along_axis(values, place, axis=1)
