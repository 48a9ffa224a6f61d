"""Power and carbon between stages: what was measured into the plan, and the plan's caps onto a cluster's nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from gangplan import execute
from gangplan.config import Settings
from gangplan.errors import InputError, NotFoundError
from gangplan.execute import CapStep
from gangplan.kube import Api
from gangplan.plan import PlanPolicy
from gangplan.types import Fleet, GridCarbon, Plan

_log = logging.getLogger(__name__)


def with_power(policy: PlanPolicy, fleet: Fleet, settings: Settings) -> PlanPolicy:
    """Add the measured curves and the grids of the regions in which nodes draw power.

    A grid is the user's hourly series, or else the yearly mean that ships, where the fleet file has no figure.

    Raises
    ------
    InputError
        A file has a mistake, or the policy names a grid that nobody knows.
    """
    series, grid = execute.read_grids(settings.carbon_file), dict(policy.grid)
    for region in {pool.region for pool in fleet.pools if pool.power_kw_per_node} - set(grid):
        if found := _grid(policy, region, series):
            grid[region] = found
    return replace(policy, curves=policy.curves or execute.read_curves(settings.curves_file), grid=grid)


def _grid(policy: PlanPolicy, region: str, series: dict[str, GridCarbon]) -> GridCarbon | None:
    """Return a region's grid, by the name that the policy gives it."""
    name = policy.grid_of.get(region, region)
    if name in series:
        return series[name]
    if name in execute.yearly_grids():
        return execute.yearly_grids()[name].grid
    if name != region:
        remedy = (
            "is no grid: `gangplan power carbon` lists those known, `gangplan power carbon import` brings in a series"
        )
        raise InputError(f"grid_of[{region}]", name, remedy)
    return None


def bring_caps(
    planned: Plan, api: Api, now: datetime, *, pools: Iterable[str] = (), dry_run: bool = False
) -> tuple[CapStep, ...]:
    """Label the nodes of pools (all of the plan) with its caps for the gangs on them now; return what was changed.

    With `dry_run` the API server only checks it. A node that has gone in the meantime is left out.
    """
    target = execute.CapTarget(api, list(pools) or [pool.name for pool in planned.fleet.pools])
    made: list[CapStep] = []
    for step in execute.cap_steps(execute.planned_caps(planned, now), target.observe()):
        try:
            target.apply(step, dry_run=dry_run)
        except NotFoundError:
            continue
        made.append(step)
    return tuple(made)
