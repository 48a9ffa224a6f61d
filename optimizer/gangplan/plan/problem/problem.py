"""The plan's problem in numbers: pools, workloads, periods and demand paths, checked before anything is solved.

Two exact merges keep it small. Pools with one accelerator and one rule of use serve as one group. Series of one class
and one accelerator have one price and one window, so they are planned as one workload, unless their tenant has a quota;
what a workload lacks is shared out to its series by their demand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.problem.forecast_table import Array, Series, read_quantiles
from gangplan.plan.problem.periods import BLOCKS, Blocks, Periods
from gangplan.plan.problem.policy import ANY, LOST_HOURS_PER_INTERRUPTION, START_HOURS, ClassPolicy, PlanPolicy
from gangplan.plan.problem.quotas import Ceiling, ceilings
from gangplan.plan.problem.scenarios import draw_paths
from gangplan.plan.problem.startup import early_hours
from gangplan.plan.problem.supply import draw_supply
from gangplan.types import QUANTILES, Fleet, Forecast, Plan, Pool, PoolKind, WorkloadClass

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All series of one class and accelerator (and tenant, where it has a quota): one price, one window, one limit."""

    workload_class: WorkloadClass
    accelerator: str
    tenant: str = ""

    @property
    def name(self) -> str:
        """How limits and explanations call it."""
        parts = (self.tenant, self.workload_class, self.accelerator)
        return "/".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pools that serve alike: one accelerator, interrupted or not, in one region where data would have to move."""

    accelerator: str
    spot: bool
    pools: tuple[int, ...]
    region: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What the model is built from.

    `quantiles` are the forecast's, shape (series, hours, levels), `paths` GPUs asked for, shape (scenarios, series,
    periods); `workload_of` maps each series to its workload.
    `supply` is the share of each pool's nodes that works, shape (scenarios, pools, periods). `held` are the nodes that
    reservations stand on, `previous` those of the last plan (negative: unknown), both of shape (pools, periods).
    `hired` are the pools whose nodes each path takes for itself (months ahead); in a plan of hours there are none.
    """

    fleet: Fleet
    settings: Settings
    policy: PlanPolicy
    start: datetime
    periods: Periods
    series: tuple[Series, ...]
    workloads: tuple[Workload, ...]
    workload_of: tuple[int, ...]
    quantiles: Array
    paths: Array
    supply: Array
    held: Counts
    previous: Counts
    hired: tuple[int, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The fleet's pools, by whose place arrays are indexed."""
        return self.fleet.pools

    def drawn_again(self, count: int, seed: int) -> Problem:
        """Return the same problem over fresh paths."""
        return replace(
            self,
            settings=self.settings.model_copy(update={"scenarios": count, "seed": seed}),
            paths=self.periods.means(draw_paths(self.quantiles, QUANTILES, count, seed)),
            supply=draw_supply(self.pools, self.policy, self.periods, count, seed),
        )

    @cached_property
    def now(self) -> tuple[int, ...]:
        """The nodes that each pool runs now."""
        return tuple(self.fleet.nodes.get(pool.name, 0) for pool in self.pools)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The serving groups in the order of their first pool."""
        members: dict[tuple[str, bool, str], list[int]] = {}
        moves = any(self.policy.egress(load.workload_class, "") for load in self.workloads)
        for index, pool in enumerate(self.pools):
            key = (pool.accelerator, pool.kind == PoolKind.SPOT, pool.region if moves else "")
            members.setdefault(key, []).append(index)
        return tuple(
            Group(accelerator=a, spot=spot, pools=tuple(found), region=region)
            for (a, spot, region), found in members.items()
        )

    @cached_property
    def demand(self) -> Array:
        """GPUs asked for by workload, shape (scenarios, workloads, periods)."""
        member = np.array(self.workload_of)[:, None] == np.arange(len(self.workloads))
        return np.einsum("kst,sw->kwt", self.paths, member.astype(float))

    @cached_property
    def class_policies(self) -> tuple[ClassPolicy, ...]:
        """What each workload's class allows."""
        return tuple(self.policy.of(load.workload_class) for load in self.workloads)

    @cached_property
    def served_by(self) -> tuple[tuple[int, ...], ...]:
        """The groups that may serve each workload."""
        return tuple(
            tuple(g for g, one in enumerate(self.groups) if self.speed(w, g) > 0 and (rule.spot or not one.spot))
            for w, rule in enumerate(self.class_policies)
        )

    def speed(self, w: int, g: int) -> float:
        """Return how much of a workload one GPU of a group does, against the accelerator that was asked for."""
        return self.policy.speed(self.workloads[w].accelerator, self.groups[g].accelerator)

    def egress(self, w: int, g: int) -> float:
        """Return money for the data that a GPU-hour of a workload moves to a group's region."""
        return self.policy.egress(self.workloads[w].workload_class, self.groups[g].region)

    @cached_property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """What tenants and cohorts may hold together."""
        tenants = [load.tenant for load in self.workloads]
        most = {
            name: float(sum(p.gpus_per_node * p.max_nodes for p in self.pools if name in (ANY, p.accelerator)))
            for name in {ANY, *(pool.accelerator for pool in self.pools)}
        }
        return ceilings(self.policy.quotas, tenants, [group.accelerator for group in self.groups], most)

    @cached_property
    def usable_gpus(self) -> Array:
        """GPUs that one node of each pool brings, interruptions taken off."""
        return np.array([pool.gpus_per_node * derating(pool) for pool in self.pools])

    @cached_property
    def prices(self) -> Array:
        """Money per node-hour by pool and period; time of use counted in."""
        base = np.array([[pool.price_per_node_hour] for pool in self.pools])
        return base * self._by_hour_of_day([pool.price_factors for pool in self.pools])

    @cached_property
    def carbon(self) -> Array:
        """Kilograms of carbon dioxide per node-hour by pool and period."""
        base = np.array([[pool.power_kw_per_node * pool.carbon_g_per_kwh / 1000] for pool in self.pools])
        return base * self._by_hour_of_day([pool.carbon_factors for pool in self.pools])

    def _by_hour_of_day(self, factors: Sequence[tuple[float, ...]]) -> Array:
        """Average factors by hour of the day over each period."""
        day = np.array([given or (1.0,) * 24 for given in factors], dtype=float)
        return self.periods.means(day[:, (self.start.hour + np.arange(self.periods.hours)) % 24])

    @cached_property
    def start_hours(self) -> Array:
        """Node-hours that a start of each pool counts: a preference, and what comes early waits for its work."""
        return np.array([START_HOURS + early_hours(pool) for pool in self.pools])

    @cached_property
    def committed(self) -> tuple[int, ...]:
        """The pools whose nodes, once taken, are paid for through the whole horizon."""
        return tuple(p for p, pool in enumerate(self.pools) if pool.kind == PoolKind.COMMITTED)

    @cached_property
    def deferrable(self) -> Array:
        """GPU-hours that each workload may have waiting at the end of each period; none is left at the horizon's."""
        amounts = self.demand * np.array(self.periods.lengths)
        bound = np.stack(
            [self.periods.window_sums(amounts[:, w], rule.defer_hours) for w, rule in enumerate(self.class_policies)],
            axis=1,
        )
        bound[:, :, -1] = 0.0
        return bound

    @cached_property
    def least(self) -> Counts:
        """Nodes that each pool is to run in each period: its minimum, and what reservations stand on."""
        return np.maximum(self.held, np.array([[pool.min_nodes] for pool in self.pools]))

    @cached_property
    def floor(self) -> Counts:
        """Nodes that each pool must run in each period: the least, as far as its lead time lets it get there."""
        floor = self.least.copy()
        for p, pool in enumerate(self.pools):
            upto = self.periods.first_after(pool.lead_time_hours)
            floor[p, :upto] = np.minimum(floor[p, :upto], self.now[p])
            floor[p] = np.minimum(floor[p], pool.max_nodes)
        return floor

    def money(self, nodes: Counts) -> Array:
        """Return the money that nodes cost by pool; committed ones are paid for through the whole horizon."""
        paid = nodes.copy()
        for p in self.committed:
            paid[p] = max(int(nodes[p].max()), min(self.now[p], self.pools[p].max_nodes))
        return (paid * self.prices) @ np.array(self.periods.lengths, dtype=float)

    @cached_property
    def unavoidable_cost(self) -> float:
        """Money that the minimum nodes cost, whatever is decided."""
        return float(self.money(self.floor).sum())

    @property
    def budget(self) -> float | None:
        """The budget that can be held: never less than what the minimum nodes cost."""
        return None if self.settings.budget is None else max(self.settings.budget, self.unavoidable_cost)


def derating(pool: Pool) -> float:
    """Return the share of a pool's time that interruptions leave it."""
    return max(0.0, 1.0 - pool.interruption_per_hour * LOST_HOURS_PER_INTERRUPTION)


def pose(
    forecast: Forecast,
    fleet: Fleet,
    settings: Settings,
    *,
    policy: PlanPolicy | None = None,
    previous: Plan | None = None,
    held: Mapping[str, Sequence[int]] | None = None,
    blocks: Blocks = BLOCKS,
) -> Problem:
    """Draw the demand paths and put the problem together; refuse what cannot be planned.

    `held` are nodes that reservations stand on, by pool and hour; `previous` is the plan that this one follows.
    """
    policy = policy or PlanPolicy()
    start, series, quantiles = read_quantiles(forecast, settings.horizon_hours)
    _check_lead_times(fleet, quantiles.shape[1])
    periods = Periods.from_horizon(quantiles.shape[1], blocks)
    kinds = [workload_of(one, policy) for one in series]
    workloads = tuple(dict.fromkeys(kinds))
    return Problem(
        fleet=fleet,
        settings=settings,
        policy=policy,
        start=start,
        periods=periods,
        series=series,
        workloads=workloads,
        workload_of=tuple(workloads.index(kind) for kind in kinds),
        quantiles=quantiles,
        paths=periods.means(draw_paths(quantiles, QUANTILES, settings.scenarios, settings.seed)),
        supply=draw_supply(fleet.pools, policy, periods, settings.scenarios, settings.seed),
        held=_held(held, fleet, periods),
        previous=_previous(previous, fleet, start, periods),
    )


def _held(held: Mapping[str, Sequence[int]] | None, fleet: Fleet, periods: Periods) -> Counts:
    """Give the most nodes that reservations stand on in each period; beyond what is said there are none."""
    hourly = np.zeros((len(fleet.pools), periods.hours), dtype=np.int64)
    for p, pool in enumerate(fleet.pools):
        given = list((held or {}).get(pool.name, ()))[: periods.hours]
        hourly[p, : len(given)] = given
    return np.maximum.reduceat(hourly, periods.starts, axis=1)


def _previous(plan: Plan | None, fleet: Fleet, start: datetime, periods: Periods) -> Counts:
    """Give the last plan's nodes at the beginning of each period; -1 where it has none."""
    known = np.full((len(fleet.pools), len(periods)), -1, dtype=np.int64)
    place = {pool.name: p for p, pool in enumerate(fleet.pools)}
    period = {int(hour): t for t, hour in enumerate(periods.starts)}
    for hour, pool, nodes in plan.nodes.iter_rows() if plan else ():
        t = period.get(round((hour - start).total_seconds() / 3600))
        if t is not None and pool in place:
            known[place[pool], t] = nodes
    return known


def _check_lead_times(fleet: Fleet, hours: int) -> None:
    """Refuse a pool that is meant to grow and cannot within the horizon."""
    for pool in fleet.pools:
        now = fleet.nodes.get(pool.name, 0)
        if pool.lead_time_hours >= hours and pool.max_nodes > now:
            raise InputError(
                f"pools[{pool.name}].lead_time_hours",
                pool.lead_time_hours,
                f"is not shorter than the horizon of {hours} h, so the pool cannot grow in it: set max_nodes to the "
                f"{now} nodes that run now, or plan further ahead (horizon_hours)",
            )


def workload_of(series: Series, policy: PlanPolicy) -> Workload:
    """Tell which workload a series belongs to."""
    tenant, kind, accelerator = series
    try:
        known = WorkloadClass(kind)
    except ValueError:
        names = ", ".join(WorkloadClass)
        raise InputError("forecast.workload_class", kind, f"is not a workload class: use one of {names}") from None
    return Workload(workload_class=known, accelerator=accelerator, tenant=tenant if tenant in policy.quotas else "")
