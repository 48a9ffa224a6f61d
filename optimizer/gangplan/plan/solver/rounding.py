"""From a fleet in fractions to whole nodes: round at a threshold, then repair the limits that rounding broke."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gangplan.plan.problem import Array, Counts, Problem

THRESHOLDS = (0.02, 0.15, 0.3, 0.5, 0.7)
"""A fraction of a node above the threshold is rounded up; each is tried."""


def round_at(exact: Array, thresholds: Sequence[float] = THRESHOLDS) -> list[Counts]:
    """Round up what exceeds a whole number by more than a threshold, for each threshold; return different fleets."""
    fleets = [np.floor(exact + 1 - threshold + 1e-9).astype(np.int64) for threshold in thresholds]
    return list({nodes.tobytes(): nodes for nodes in fleets}.values())


def repair(problem: Problem, nodes: Counts) -> Counts:
    """Make a fleet keep limits, lead times, minimum times and reservations, forwards in time."""
    nodes = np.maximum(nodes, problem.floor)
    for p, pool in enumerate(problem.pools):
        nodes[p] = np.minimum(nodes[p], pool.max_nodes)
        upto = problem.periods.first_after(pool.lead_time_hours)
        nodes[p, :upto] = np.minimum.accumulate(np.minimum(nodes[p, :upto], problem.now[p]))
        if pool.minimum_up_hours:
            nodes[p] = keep_minimum_up(nodes[p], problem.now[p], problem.periods.starts, pool.minimum_up_hours)
    return nodes


def keep_minimum_up(nodes: Counts, now: int, starts: Counts, hours: int) -> Counts:
    """Keep at least as many nodes as were started within the last `hours`."""
    kept, started = nodes.copy(), np.zeros_like(nodes)
    for t in range(len(nodes)):
        before = kept[t - 1] if t else now
        recent = int(started[:t][starts[:t] + hours > starts[t]].sum())
        kept[t] = max(kept[t], recent)
        started[t] = max(0, kept[t] - before)
    return kept


def fit_budget(problem: Problem, nodes: Counts, exact: Array) -> Counts:
    """Remove nodes until the budget holds, first those that were rounded up most; `exact` is the fleet in fractions."""
    budget = problem.budget
    if budget is None or float(problem.money(nodes).sum()) <= budget:
        return nodes
    nodes = nodes.copy()
    order: list[int] = np.argsort((exact - nodes).ravel(), kind="stable").tolist()
    floor, lengths = problem.floor, problem.periods.lengths
    over = float(problem.money(nodes).sum()) - budget
    for p, t in (divmod(place, nodes.shape[1]) for place in order):
        if over <= 0:
            break
        if nodes[p, t] > floor[p, t] and nodes[p, t] > exact[p, t]:
            nodes[p, t] -= 1
            over -= float(problem.prices[p, t]) * lengths[t] if p not in problem.committed else 0.0
    return repair(problem, nodes)
