"""A solved problem as arrays: what runs, what is served where, what waits, what is short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # reading a plan needs no solver
    from gangplan.plan.problem import Array, Counts, Problem
    from gangplan.plan.solver import Decomposition, SearchResult

TOLERANCE = 0.01
"""A shortage of fewer GPUs is the solver's rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A search's result as arrays.

    Attributes
    ----------
    short : GPUs, shape (scenarios, workloads, periods)
    backlog : GPU-hours that wait, in the same shape
    serve : GPUs by (workload, group), each of shape (scenarios, periods)
    reserve_gap, zone_gap : GPUs that the reserves lack, by accelerator, each of shape (periods,)
    below_minimum : nodes that a pool lacks, by its index, each of shape (periods,)
    """

    problem: Problem
    result: SearchResult
    short: Array
    backlog: Array
    serve: dict[tuple[int, int], Array]
    reserve_gap: dict[str, Array]
    zone_gap: dict[str, Array]
    below_minimum: dict[int, Array]

    @property
    def nodes(self) -> Counts:
        """Nodes by pool and period."""
        return self.result.nodes

    @cached_property
    def node_hours(self) -> Array:
        """Node-hours by pool."""
        return (self.nodes @ np.array(self.problem.periods.lengths)).astype(float)

    @cached_property
    def cost(self) -> Array:
        """Money by pool."""
        return self.problem.money(self.nodes)

    @cached_property
    def emission(self) -> Array:
        """Kilograms of carbon dioxide by pool."""
        return (self.nodes * self.problem.carbon) @ np.array(self.problem.periods.lengths, dtype=float)

    @cached_property
    def egress(self) -> float:
        """Expected money for data that leaves its region."""
        lengths = np.array(self.problem.periods.lengths, dtype=float)
        return sum(
            self.problem.egress(*route) * float(gpus.mean(axis=0) @ lengths) for route, gpus in self.serve.items()
        )

    @cached_property
    def expected_short(self) -> Array:
        """Expected GPUs short by workload and period, without the solver's rounding."""
        mean = self.short.mean(axis=0)
        return np.where(mean > TOLERANCE, mean, 0.0)

    @cached_property
    def short_gpu_hours(self) -> Array:
        """Expected GPU-hours short by workload."""
        return self.expected_short @ np.array(self.problem.periods.lengths)

    def series_short(self) -> Array:
        """Divide workloads' shortage among their series by recent demand: GPUs, shape (scenarios, series, periods)."""
        problem = self.problem
        by_series = np.zeros_like(problem.paths)
        amounts = problem.paths * np.array(problem.periods.lengths)
        for w, rule in enumerate(problem.class_policies):
            members = [s for s, workload in enumerate(problem.workload_of) if workload == w]
            longest = max(rule.defer_hours, max(problem.periods.lengths))
            recent = problem.periods.window_sums(amounts[:, members], longest)
            total = recent.sum(axis=1, keepdims=True)
            share = np.divide(recent, total, out=np.zeros_like(recent), where=total > 0)
            by_series[:, members] = share * self.short[:, [w]]
        return by_series


def read_solution(problem: Problem, decomposition: Decomposition, result: SearchResult) -> Solution:
    """Read the values of a search's columns into arrays."""
    master, programs, values = decomposition.master, decomposition.programs, result.candidate.values
    by_path = np.maximum(np.stack(result.candidate.recourse.values), 0.0)

    def of_fleet(variables: Iterable[Any]) -> Array:
        return np.maximum(values[master.form.columns_of(list(variables))], 0.0)

    def of_path(component: Any, *first: int) -> Array:
        return by_path[:, programs.columns_of([component[(*first, t, 0)] for t in path.T])]

    fleet, path = master.model, programs.model
    backlog = np.zeros(problem.demand.shape)
    for w in path.waiting:
        backlog[:, w] = of_path(path.backlog, w)
    return Solution(
        problem=problem,
        result=result,
        short=np.maximum(programs.short_gpus(result.candidate.recourse), 0.0),
        backlog=backlog,
        serve={route: of_path(path.serve, *route) for route in path.routes},
        reserve_gap={a: of_fleet(fleet.reserve_gap[a, t] for t in fleet.T) for a in fleet.reserved},
        zone_gap={a: of_fleet(fleet.zone_gap[a, t] for t in fleet.T) for a in fleet.zoned},
        below_minimum={p: of_fleet(fleet.below_minimum[p, t] for t in fleet.T) for p in fleet.minimum_pools},
    )
