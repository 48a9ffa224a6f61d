"""Power and carbon between stages: what was measured into the plan, and the plan's caps onto a cluster's nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from gangplan import execute, plan
from gangplan.config import Settings, read_fleet
from gangplan.errors import InputError, NotFoundError
from gangplan.execute import CapStep
from gangplan.kube import Api
from gangplan.plan import PlanPolicy
from gangplan.tracking import open_store
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


@dataclass(kw_only=True)
class Capping:
    """Brings the published plan's caps onto the nodes of the pools that `power` in targets.yaml names, by passes."""

    settings: Settings
    api: Api
    _plan: Plan | None = field(default=None, init=False)

    def once(self) -> tuple[CapStep, ...]:
        """Make one pass; without such pools nothing is read from the cluster."""
        file = self.settings.targets_file
        named = () if file is None else execute.read_targets(file, read_fleet(self.settings.fleet_file)).power.pools
        if not named:
            return ()
        self._plan = plan.read_published(open_store(self.settings), self._plan)
        steps = bring_caps(self._plan, self.api, self.settings.clock(), pools=named)
        for step in steps:
            _log.info("cap", extra={"node": step.node, step.knob.value: step.after or "none", "why": step.why})
        return steps
