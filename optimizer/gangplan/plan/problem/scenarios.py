"""Scenarios: demand paths drawn from a forecast's quantiles, capacity that may fail, and how long new nodes take.

docs/plan.md has the method of demand paths. Source: Schefzik, Thorarinsdottir and Gneiting (2013), for the evenly
spaced probabilities (ensemble copula coupling).

Start-up times are log-normal, through the median and the 95 % quantile of the fleet file. The plan adds the mean cost
of nodes that come early to each start; evaluations draw early and late ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import NormalDist

import numpy as np

from gangplan.plan.problem.periods import Array, Counts, Periods
from gangplan.plan.problem.policy import HOUR_CORRELATION, SERIES_CORRELATION, PlanPolicy, SupplyRisk
from gangplan.types import Pool, PoolKind

Place = tuple[str, str]

_P95 = NormalDist().inv_cdf(0.95)
_STEPS = 200


def draw_paths(quantiles: Array, levels: Sequence[float], count: int, seed: int) -> Array:
    """Draw equally likely demand paths, shape (count, series, hours), from quantiles, shape (series, hours, levels)."""
    series, hours, _ = quantiles.shape
    generator = np.random.default_rng(seed)
    common, own = (_walks(generator.standard_normal((count, rows, hours))) for rows in (1, series))
    scores = np.sqrt(SERIES_CORRELATION) * common + np.sqrt(1 - SERIES_CORRELATION) * own
    order = scores.argsort(axis=0).argsort(axis=0)
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


def startup_minutes(pool: Pool, scores: Array) -> Array:
    """Return start-up times in minutes at normal scores (0: the median)."""
    if pool.startup_minutes_p95 <= 0:
        return np.zeros_like(scores)
    width = log(pool.startup_minutes_p95 / pool.startup_minutes_p50) / _P95
    return pool.startup_minutes_p50 * np.exp(width * scores)


def early_hours(pool: Pool) -> float:
    """Return the mean hours that a node, ordered so that it is up in time, is there before it is needed."""
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
    return float(np.maximum(0.0, pool.startup_minutes_p95 - startup_minutes(pool, scores)).mean() / 60)


def arrivals(
    pools: Sequence[Pool], now: Sequence[int], nodes: Counts, periods: Periods, prices: Array, *, seed: int
) -> tuple[Array, Array]:
    """Draw when started nodes come up, with one draw for all nodes that a pool starts together.

    `nodes` are as ordered, shape (pools, periods) or (paths, pools, periods); `prices` are money per node-hour. Returns
    the nodes that are up, fractional where some come up within a period, and the money for those that came early, by
    path (or one number). Without start-up times in the fleet file these are `nodes` and 0.
    """
    up = np.array(nodes, dtype=float)
    paid = np.zeros(up.shape[:-2])
    lengths = np.array(periods.lengths, dtype=float)
    for p, pool in enumerate(pools):
        if pool.startup_minutes_p95 <= 0:
            continue
        ordered = up[..., p, :].copy()
        before = np.concatenate([np.full((*ordered.shape[:-1], 1), float(now[p])), ordered[..., :-1]], axis=-1)
        started = np.maximum(0.0, ordered - before)
        scores = np.random.default_rng([seed, 2, p]).standard_normal(started.shape)
        delay = (startup_minutes(pool, scores) - pool.startup_minutes_p95) / 60  # hours; negative: early
        paid += (started * np.maximum(0.0, -delay) * prices[p]).sum(axis=-1)
        up[..., p, :] = np.maximum(0.0, ordered - _missing(started, np.maximum(0.0, delay), periods.starts, lengths))
    return up, paid


def _missing(started: Array, late: Array, starts: Counts, lengths: Array) -> Array:
    """Average the nodes that are not up yet over each period."""
    missing = np.zeros_like(started)
    for t in range(started.shape[-1]):
        hours = np.minimum(np.maximum(0.0, starts[t] + late[..., [t]] - starts), lengths)
        missing += started[..., [t]] * np.where(starts >= starts[t], hours / lengths, 0.0)
    return missing
