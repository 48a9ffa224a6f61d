"""Scenarios: demand paths drawn from a forecast's quantiles, and the capacity that may fail on each path.

A series' quantile function is linear between its levels on the normal scale. So a normal forecast is met exactly, and
both tails continue as a normal distribution's would, never below zero. A Gaussian copula orders the paths: AR(1) over
hours plus a factor that all series share. Within each hour the paths have evenly spaced probabilities (ensemble copula
coupling: Schefzik, Thorarinsdottir and Gneiting 2013), so that a few paths already have the forecast's spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from gangplan.plan.problem.periods import Array, Periods
from gangplan.plan.problem.policy import HOUR_CORRELATION, SERIES_CORRELATION, PlanPolicy, SupplyRisk
from gangplan.types import Pool, PoolKind

Place = tuple[str, str]


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


def _quantile_function(values: Array, knots: Array, scores: Array) -> Array:
    """Evaluate each quantile function at normal scores: linear between knots, with the end slopes outside them."""
    left = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, len(knots) - 2)
    weight = (scores - knots[left]) / (knots[left + 1] - knots[left])
    return np.maximum(0.0, values[..., left] * (1 - weight) + values[..., left + 1] * weight)


def _copula(count: int, series: int, hours: int, generator: np.random.Generator) -> Array:
    """Draw normal scores of shape (count, series, hours) with the correlations of the policy."""
    common = _walks(generator.standard_normal((count, 1, hours)))
    own = _walks(generator.standard_normal((count, series, hours)))
    return np.sqrt(SERIES_CORRELATION) * common + np.sqrt(1 - SERIES_CORRELATION) * own


def _walks(noise: Array) -> Array:
    """Turn white noise into AR(1) paths of unit variance along the last axis."""
    walks = noise.copy()
    for hour in range(1, noise.shape[-1]):
        carried_over = HOUR_CORRELATION * walks[..., hour - 1]
        walks[..., hour] = carried_over + np.sqrt(1 - HOUR_CORRELATION**2) * noise[..., hour]
    return walks


def draw_supply(pools: Sequence[Pool], policy: PlanPolicy, periods: Periods, count: int, seed: int) -> Array:
    """Draw the share of each pool's nodes that works, shape (count, pools, periods).

    A spot drought hits all spot nodes of one accelerator and region; the loss of a zone hits all its pools.
    """
    supply = np.ones((count, len(pools), len(periods)))
    generator = np.random.default_rng([seed, 1])
    spot = [(p, (pool.region, pool.accelerator)) for p, pool in enumerate(pools) if pool.kind == PoolKind.SPOT]
    zones = [(p, (pool.region, pool.zone)) for p, pool in enumerate(pools)]
    _fail(supply, spot, policy.spot_drought, periods, generator)
    if len({place for _, place in zones}) > 1:
        _fail(supply, zones, policy.lost_zone, periods, generator)
    return supply


def _fail(
    supply: Array, members: list[tuple[int, Place]], risk: SupplyRisk, periods: Periods, generator: np.random.Generator
) -> None:
    """Let one place fail on the share of paths, and for the hours, that the risk gives."""
    places = sorted({place for _, place in members})
    failing_paths = generator.permutation(len(supply))[: round(risk.share_of_paths * len(supply))]
    for path in failing_paths if places else ():
        place = places[int(generator.integers(len(places)))]
        begin = int(generator.integers(periods.hours))
        ends = periods.starts + np.array(periods.lengths)
        during = (periods.starts < begin + risk.hours) & (ends > begin)
        for p in (p for p, home in members if home == place):
            supply[path, p, during] *= risk.left
