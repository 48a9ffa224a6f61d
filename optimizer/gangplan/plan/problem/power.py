"""What nodes draw and emit, idle and at work, and the caps under which work may run.

A node draws its idle power while it runs: that is decided with the fleet. Where idling was measured, GPUs at work draw
more, as much as their cap leaves them: that is decided on each path, with the work. So a cap costs no whole number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from gangplan.errors import InputError
from gangplan.plan.problem.periods import Array, Periods
from gangplan.types import GridCarbon, Knob, Pool, PowerCurve, PowerPoint

if TYPE_CHECKING:
    from gangplan.plan.problem.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A workload under a cap on a group: its speed for what it asks, and the kW that a GPU draws beyond an idle one."""

    workload: int
    group: int
    knob: Knob
    point: PowerPoint
    speed: float
    kw: float

    @property
    def route(self) -> tuple[int, int]:
        """The workload and the group."""
        return self.workload, self.group


def power_key(pool: Pool, grid: Mapping[str, GridCarbon]) -> tuple[object, ...]:
    """Return what pools of one group must have in common, so that work draws, costs and emits the same on each."""
    if not pool.kw_per_gpu_at_work:
        return ()
    own = pool.carbon_g_per_kwh, pool.carbon_factors
    carbon = pool.region if counts_by_grid(pool, grid) else own
    return pool.kw_per_gpu_at_work, pool.electricity_per_kwh, carbon


def counts_by_grid(pool: Pool, grid: Mapping[str, GridCarbon]) -> bool:
    """Tell whether a pool's carbon is that of its region's grid: by hours always, by a mean if it has no figure."""
    return pool.region in grid and (bool(grid[pool.region].hourly) or not pool.carbon_g_per_kwh)


def grams_per_kwh(
    pools: Sequence[Pool], grid: Mapping[str, GridCarbon], start: datetime, periods: Periods, factors: Array
) -> Array:
    """Return the grams of CO2 for each kWh, shape (pools, periods): the grid's series, else the pool's own figure."""
    grams = np.array([[pool.carbon_g_per_kwh] for pool in pools]) * factors
    hours = [start + timedelta(hours=hour) for hour in range(periods.hours)]
    by_region = {
        region: periods.means(np.array([series.at(hour) for hour in hours])) for region, series in grid.items()
    }
    for p, pool in enumerate(pools):
        if counts_by_grid(pool, grid):
            grams[p] = by_region[pool.region]
    return grams


def modes_of(problem: Problem) -> tuple[Mode, ...]:
    """Return the caps under which each workload may run on each group; none where a curve or idling is not measured."""
    found: list[Mode] = []
    for w, groups in enumerate(problem.served_by):
        for g in groups:
            curve = problem.policy.curve(problem.workloads[w].workload_class, problem.groups[g].accelerator)
            if curve is not None and problem.kw_at_work(g):
                found += _modes(problem, w, g, curve)
    return tuple(found)


def _modes(problem: Problem, w: int, g: int, curve: PowerCurve) -> list[Mode]:
    """Return a workload's caps on a group, less those that another, or a mixture of two others, always beats."""
    full = problem.kw_at_work(g)
    modes = [
        Mode(
            workload=w,
            group=g,
            knob=curve.knob,
            point=point,
            speed=problem.speed(w, g) * point.speed,
            kw=full - curve.saved_watts(point) / 1000,
        )
        for point in curve.caps
    ]
    for mode in modes:
        if mode.kw < 0:
            pool, saved = problem.pools[problem.groups[g].pools[0]], curve.saved_watts(mode.point)
            raise InputError(
                f"pools[{pool.name}].idle_kw_per_node",
                pool.idle_kw_per_node,
                f"leaves {full * 1000:,.0f} W for a GPU at work, less than the {saved:,.0f} W that a cap of "
                f"{mode.point.setting} saves: measure power_kw_per_node and idle_kw_per_node again",
            )
    return _useful(modes, problem.speed(w, g), full)


def _useful(modes: list[Mode], speed: float, kw: float) -> list[Mode]:
    """Keep the modes on the lower hull of power over speed: from no work without power to full speed without a cap."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda mode: (mode.speed, -mode.kw)):
        while kept and _above(_before(kept), kept[-1], (mode.speed, mode.kw)):
            kept.pop()
        kept.append(mode)
    while kept and _above(_before(kept), kept[-1], (speed, kw)):
        kept.pop()
    return kept


def _before(kept: list[Mode]) -> tuple[float, float]:
    """Return the corner of the hull before the last one."""
    return (kept[-2].speed, kept[-2].kw) if len(kept) > 1 else (0.0, 0.0)


def _above(left: tuple[float, float], mode: Mode, right: tuple[float, float]) -> bool:
    """Tell whether a mode lies on or above the line between its neighbours, which together do the same with less."""
    slope = (right[1] - left[1]) * (mode.speed - left[0])
    return (mode.kw - left[1]) * (right[0] - left[0]) >= slope
