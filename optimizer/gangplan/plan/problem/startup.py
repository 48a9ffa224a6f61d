"""How long new nodes take to start: log-normal, through the median and the 95 % quantile of the fleet file.

A node is ordered so early that 95 of 100 are up in time. A node that is early is paid for while it waits; a node that
is late is missing until it comes. The plan adds the mean cost of early nodes to each start; evaluations draw both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import NormalDist

import numpy as np

from gangplan.plan.problem.periods import Array, Counts, Periods
from gangplan.types import Pool

_P95 = NormalDist().inv_cdf(0.95)
_STEPS = 200


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

    Parameters
    ----------
    nodes : as ordered, shape (pools, periods) or (paths, pools, periods)
    prices : money per node-hour, shape (pools, periods)

    Returns
    -------
    Nodes that are up, in the shape of `nodes`, fractional where some come up within a period; and money for those that
    came early, by path (or one number). Without start-up times in the fleet file these are `nodes` and 0.
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
