"""From a fleet in fractions to whole nodes: round at a threshold, then mend what arithmetic broke."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gangplan.plan.problem import Counts, Problem
from gangplan.plan.solver.highs import Array

THRESHOLDS = (0.02, 0.15, 0.3, 0.5, 0.7)
"""A fraction of a node above this is rounded up."""


def round_at(exact: Array, thresholds: Sequence[float] = THRESHOLDS) -> list[Counts]:
    """Round up what exceeds a whole number by more than the threshold, once for each threshold."""
    fleets = [np.floor(exact + 1 - threshold + 1e-9).astype(np.int64) for threshold in thresholds]
    return list({nodes.tobytes(): nodes for nodes in fleets}.values())


def mend(problem: Problem, nodes: Counts) -> Counts:
    """Hold limits, lead times, minimum times and reservations again, forwards in time."""
    nodes = np.maximum(nodes, problem.floor)
    for p, pool in enumerate(problem.pools):
        nodes[p] = np.minimum(nodes[p], pool.max_nodes)
        upto = problem.periods.first_after(pool.lead_time_hours)
        nodes[p, :upto] = np.minimum.accumulate(np.minimum(nodes[p, :upto], problem.now[p]))
        if pool.minimum_up_hours:
            nodes[p] = keep_young(nodes[p], problem.now[p], problem.periods.starts, pool.minimum_up_hours)
    return nodes


def keep_young(nodes: Counts, now: int, starts: Counts, hours: int) -> Counts:
    """Keep as many nodes as were started within the last hours."""
    kept, started = nodes.copy(), np.zeros_like(nodes)
    for t in range(len(nodes)):
        before = kept[t - 1] if t else now
        young = int(started[:t][starts[:t] + hours > starts[t]].sum())
        kept[t] = max(kept[t], young)
        started[t] = max(0, kept[t] - before)
    return kept


def afford(problem: Problem, nodes: Counts, exact: Array) -> Counts:
    """Take nodes away, those first that were rounded up most, until the budget holds."""
    budget = problem.budget
    if budget is None or float(problem.money(nodes).sum()) <= budget:
        return nodes
    nodes = nodes.copy()
    order = np.dstack(np.unravel_index(np.argsort((exact - nodes).ravel(), kind="stable"), nodes.shape))[0]
    floor, lengths = problem.floor, problem.periods.lengths
    over: float = float(problem.money(nodes).sum()) - budget
    places: list[list[int]] = order.tolist()
    for p, t in places:
        if over <= 0:
            break
        if nodes[p, t] > floor[p, t] and nodes[p, t] > exact[p, t]:
            nodes[p, t] -= 1
            over -= float(problem.prices[p, t]) * lengths[t] if p not in problem.committed else 0.0
    return mend(problem, nodes)
