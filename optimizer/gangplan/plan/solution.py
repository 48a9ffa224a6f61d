"""A solved problem in arrays: what runs, who is served where, what waits, what is short."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gangplan.plan.handover import Array, StandardForm
from gangplan.plan.problem import Problem
from gangplan.plan.search import Found

TOLERANCE = 0.01
"""GPUs below which a shortage is the solver's arithmetic."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The found plan; scenario arrays have shape (scenarios, ..., periods).

    `short` and `backlog` are by workload, in GPUs and GPU-hours; `serve` maps (workload, group) to GPUs;
    `reserve_gap` maps accelerators to GPUs, `below_minimum` pools to nodes, both by period.
    """

    problem: Problem
    found: Found
    short: Array
    backlog: Array
    serve: dict[tuple[int, int], Array]
    reserve_gap: dict[str, Array]
    below_minimum: dict[int, Array]

    @property
    def nodes(self) -> NDArray[np.int64]:
        """Nodes by pool and period."""
        return self.found.nodes

    @cached_property
    def node_hours(self) -> Array:
        """Node-hours by pool."""
        return (self.nodes @ np.array(self.problem.periods.lengths)).astype(float)

    @cached_property
    def cost(self) -> Array:
        """Money by pool."""
        return self.node_hours * np.array([pool.price_per_node_hour for pool in self.problem.pools])

    @cached_property
    def expected_short(self) -> Array:
        """GPUs short in the mean, by workload and period; the solver's arithmetic is taken off."""
        mean = self.short.mean(axis=0)
        return np.where(mean > TOLERANCE, mean, 0.0)

    @cached_property
    def short_gpu_hours(self) -> Array:
        """Expected GPU-hours short by workload."""
        return self.expected_short @ np.array(self.problem.periods.lengths)

    def series_short(self) -> Array:
        """GPUs short by scenario, series and period: each workload's shortage, shared by its series' recent demand."""
        problem = self.problem
        result = np.zeros_like(problem.paths)
        amounts = problem.paths * np.array(problem.periods.lengths)
        for w, workload in enumerate(problem.workloads):
            members = [s for s, home in enumerate(problem.workload_of) if home == w]
            longest = max(workload.policy.defer_hours, max(problem.periods.lengths))
            recent = problem.periods.window_sums(amounts[:, members], longest)
            total = recent.sum(axis=1, keepdims=True)
            share = np.divide(recent, total, out=np.zeros_like(recent), where=total > 0)
            result[:, members] = share * self.short[:, [w]]
        return result


def read_solution(problem: Problem, model: Any, form: StandardForm, found: Found) -> Solution:
    """Read the columns of a found plan into arrays."""
    scenarios, workloads, periods = problem.demand.shape

    def values(variables: Iterable[Any]) -> Array:
        return np.maximum(found.values[form.columns_of(list(variables))], 0.0)

    def by_scenario(component: Any, *first: int) -> Array:
        flat = values(component[(*first, t, k)] for k in model.K for t in model.T)
        return flat.reshape(scenarios, periods)

    backlog = np.zeros((scenarios, workloads, periods))
    for w in model.waiting:
        backlog[:, w] = by_scenario(model.backlog, w)
    return Solution(
        problem=problem,
        found=found,
        short=np.stack([by_scenario(model.short, w) for w in model.W], axis=1),
        backlog=backlog,
        serve={route: by_scenario(model.serve, *route) for route in model.routes},
        reserve_gap={a: values(model.reserve_gap[a, t] for t in model.T) for a in model.reserved},
        below_minimum={p: values(model.below_minimum[p, t] for t in model.T) for p in model.minimum_pools},
    )
