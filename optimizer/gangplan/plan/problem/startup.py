"""How long new nodes take, as a distribution: log-normal through the median and the 95 % quantile of the fleet file.

A node is ordered so far ahead that 95 of 100 are there in time. What comes early is paid for and waits; what comes late
is missing until it comes. The plan counts the mean of the first with each start; evaluations draw both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gangplan.plan.problem.periods import Periods
from gangplan.types import Pool

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_P95 = NormalDist().inv_cdf(0.95)
_STEPS = 200


def startup_minutes(pool: Pool, scores: Array) -> Array:
    """Return start-up times at normal scores (0: the median)."""
    if pool.startup_minutes_p95 <= 0:
        return np.zeros_like(scores)
    width = log(pool.startup_minutes_p95 / pool.startup_minutes_p50) / _P95
    return pool.startup_minutes_p50 * np.exp(width * scores)


def early_hours(pool: Pool) -> float:
    """Return the hours for which a node that is ordered in time waits for its work, in the mean."""
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)])
    return float(np.maximum(0.0, pool.startup_minutes_p95 - startup_minutes(pool, scores)).mean() / 60)


def arrivals(
    pools: Sequence[Pool], now: Sequence[int], nodes: Counts, periods: Periods, prices: Array, *, seed: int
) -> tuple[Array, Array]:
    """Draw when started nodes come, one draw for all that a pool starts at once.

    Parameters
    ----------
    nodes : as ordered, shape (pools, periods) or (paths, pools, periods)
    prices : money per node-hour, shape (pools, periods)

    Returns
    -------
    Nodes that are there, not whole where some come within a period, in the shape of `nodes`; and money for those that
    came early, summed by path (or one number). With no distribution in the fleet they are `nodes` and nothing.
    """
    there = np.array(nodes, dtype=float)
    paid = np.zeros(there.shape[:-2])
    lengths = np.array(periods.lengths, dtype=float)
    for p, pool in enumerate(pools):
        if pool.startup_minutes_p95 <= 0:
            continue
        ordered = there[..., p, :].copy()
        before = np.concatenate([np.full((*ordered.shape[:-1], 1), float(now[p])), ordered[..., :-1]], axis=-1)
        started = np.maximum(0.0, ordered - before)
        scores = np.random.default_rng([seed, 2, p]).standard_normal(started.shape)
        off = (startup_minutes(pool, scores) - pool.startup_minutes_p95) / 60  # hours late; negative: early
        paid += (started * np.maximum(0.0, -off) * prices[p]).sum(axis=-1)
        there[..., p, :] = np.maximum(0.0, ordered - _missing(started, np.maximum(0.0, off), periods.starts, lengths))
    return there, paid


def _missing(started: Array, late: Array, starts: Counts, lengths: Array) -> Array:
    """Nodes that are not there yet, in the mean of each period."""
    missing = np.zeros_like(started)
    for t in range(started.shape[-1]):
        hours = np.minimum(np.maximum(0.0, starts[t] + late[..., [t]] - starts), lengths)
        missing += started[..., [t]] * np.where(starts >= starts[t], hours / lengths, 0.0)
    return missing
