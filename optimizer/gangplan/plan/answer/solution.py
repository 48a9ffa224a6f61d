"""A solved problem in arrays: what runs, who is served where, what waits, what is short."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # who reads plans needs no solver
    from gangplan.plan.problem import Problem
    from gangplan.plan.solver import Array, Decomposition, Found

TOLERANCE = 0.01
"""GPUs below which a shortage is the solver's arithmetic."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The found plan; scenario arrays have shape (scenarios, ..., periods).

    `short` and `backlog` are by workload, in GPUs and GPU-hours; `serve` maps (workload, group) to GPUs;
    `reserve_gap` and `zone_gap` map accelerators to GPUs, `below_minimum` pools to nodes, both by period.
    """

    problem: Problem
    found: Found
    short: Array
    backlog: Array
    serve: dict[tuple[int, int], Array]
    reserve_gap: dict[str, Array]
    zone_gap: dict[str, Array]
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
        return self.problem.money(self.nodes)

    @cached_property
    def emission(self) -> Array:
        """Kilograms of carbon dioxide by pool."""
        return (self.nodes * self.problem.carbon) @ np.array(self.problem.periods.lengths, dtype=float)

    @cached_property
    def egress(self) -> float:
        """Money for data that leaves its region, in the mean."""
        lengths = np.array(self.problem.periods.lengths, dtype=float)
        return sum(
            self.problem.egress(*route) * float(gpus.mean(axis=0) @ lengths) for route, gpus in self.serve.items()
        )

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
        for w, rule in enumerate(problem.class_policies):
            members = [s for s, home in enumerate(problem.workload_of) if home == w]
            longest = max(rule.defer_hours, max(problem.periods.lengths))
            recent = problem.periods.window_sums(amounts[:, members], longest)
            total = recent.sum(axis=1, keepdims=True)
            share = np.divide(recent, total, out=np.zeros_like(recent), where=total > 0)
            result[:, members] = share * self.short[:, [w]]
        return result


def read_solution(problem: Problem, decomposition: Decomposition, found: Found) -> Solution:
    """Read the columns of a found plan into arrays."""
    master, paths, point = decomposition.master, decomposition.paths, found.point
    by_path = np.maximum(np.stack(point.priced.values), 0.0)

    def of_fleet(variables: Iterable[Any]) -> Array:
        return np.maximum(point.values[master.form.columns_of(list(variables))], 0.0)

    def of_path(component: Any, *first: int) -> Array:
        return by_path[:, paths.columns_of([component[(*first, t, 0)] for t in paths.model.T])]

    backlog = np.zeros(problem.demand.shape)
    for w in paths.model.waiting:
        backlog[:, w] = of_path(paths.model.backlog, w)
    fleet = master.model
    return Solution(
        problem=problem,
        found=found,
        short=np.stack([of_path(paths.model.short, w) for w in paths.model.W], axis=1),
        backlog=backlog,
        serve={route: of_path(paths.model.serve, *route) for route in paths.model.routes},
        reserve_gap={a: of_fleet(fleet.reserve_gap[a, t] for t in fleet.T) for a in fleet.reserved},
        zone_gap={a: of_fleet(fleet.zone_gap[a, t] for t in fleet.T) for a in fleet.zoned},
        below_minimum={p: of_fleet(fleet.below_minimum[p, t] for t in fleet.T) for p in fleet.minimum_pools},
    )
