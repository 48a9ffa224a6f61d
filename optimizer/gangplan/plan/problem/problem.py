"""The plan's problem in numbers: pools, workloads, periods, and the scenarios of demand and capacity.

Two merges keep it small and lose nothing. Pools with the same accelerator and the same rule of use serve as one group.
Series with the same class and accelerator have the same price and the same time to wait, so they are planned as one
workload, unless their tenant has a quota. A workload's shortage is divided among its series by their demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.problem.periods import Array, Counts, Periods
from gangplan.plan.problem.policy import LOST_HOURS_PER_INTERRUPTION, START_HOURS, ClassPolicy, PlanPolicy
from gangplan.plan.problem.power import Mode, grams_per_kwh, modes_of, power_key
from gangplan.plan.problem.scenarios import draw_paths, draw_supply, early_hours
from gangplan.types import ANY, QUANTILES, Fleet, Pool, PoolKind, WorkloadClass

Series = tuple[str, str, str]
"""A demand series: tenant, workload class, accelerator."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All series of one class and accelerator (and of one tenant, where it has a quota), planned together."""

    workload_class: WorkloadClass
    accelerator: str
    tenant: str = ""

    @property
    def name(self) -> str:
        """Its name in limits and explanations."""
        parts = (self.tenant, self.workload_class, self.accelerator)
        return "/".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pools that serve in the same way: one accelerator, all spot or none, one region (where moving data costs).

    Where it is measured what their GPUs draw at work, they draw and emit the same as well.
    """

    accelerator: str
    spot: bool
    pools: tuple[int, ...]
    region: str = ""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """GPUs that some workloads may use together on some groups of pools, each by its index."""

    name: str
    workloads: tuple[int, ...]
    groups: tuple[int, ...]
    gpus: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What the model is built from.

    start : the first hour
    workload_of : the workload of each series, by its place in `workloads`
    quantiles : the forecast's, in GPUs, shape (series, hours, levels)
    paths : GPUs asked for, shape (scenarios, series, periods)
    supply : the share of each pool's nodes that works, shape (scenarios, pools, periods)
    held : nodes that reservations use, shape (pools, periods)
    previous : nodes of the last plan, negative where it has none, shape (pools, periods)
    hired : pools whose nodes each path takes as it needs them (plans of months); none in a plan of hours
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
        """The fleet's pools, in the order in which arrays have them."""
        return self.fleet.pools

    def with_fresh_paths(self, count: int, seed: int) -> Problem:
        """Return the same problem with newly drawn scenarios."""
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
        members: dict[tuple[str, bool, str, tuple[object, ...]], list[int]] = {}
        moves = any(self.policy.egress(load.workload_class, "") for load in self.workloads)
        for index, pool in enumerate(self.pools):
            region = pool.region if moves else ""
            key = (pool.accelerator, pool.kind == PoolKind.SPOT, region, power_key(pool, self.policy.grid))
            members.setdefault(key, []).append(index)
        return tuple(
            Group(accelerator=accelerator, spot=spot, pools=tuple(pools), region=region)
            for (accelerator, spot, region, _), pools in members.items()
        )

    @cached_property
    def demand(self) -> Array:
        """GPUs asked for by workload, shape (scenarios, workloads, periods)."""
        member = np.array(self.workload_of)[:, None] == np.arange(len(self.workloads))
        return np.einsum("kst,sw->kwt", self.paths, member.astype(float))

    @cached_property
    def class_policies(self) -> tuple[ClassPolicy, ...]:
        """The policy of each workload's class."""
        return tuple(self.policy.of(load.workload_class) for load in self.workloads)

    @cached_property
    def served_by(self) -> tuple[tuple[int, ...], ...]:
        """The groups that may serve each workload."""
        return tuple(
            tuple(g for g, group in enumerate(self.groups) if self.speed(w, g) > 0 and (rule.spot or not group.spot))
            for w, rule in enumerate(self.class_policies)
        )

    def speed(self, w: int, g: int) -> float:
        """Return how fast a GPU of a group does a workload, relative to the accelerator that was asked for."""
        return self.policy.speed(self.workloads[w].accelerator, self.groups[g].accelerator)

    def egress(self, w: int, g: int) -> float:
        """Return money for the data that a GPU-hour of a workload moves to a group's region."""
        return self.policy.egress(self.workloads[w].workload_class, self.groups[g].region)

    @cached_property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """What tenants (nominal share and what they borrow) and cohorts (all nominal shares) may use at a time."""
        quotas, limits = self.policy.quotas, list[Ceiling]()

        def add(name: str, members: Sequence[str], accelerator: str, gpus: float) -> None:
            workloads = tuple(w for w, load in enumerate(self.workloads) if load.tenant in members)
            groups = tuple(g for g, group in enumerate(self.groups) if accelerator in (ANY, group.accelerator))
            limits.append(Ceiling(name=f"{name}/{accelerator}", workloads=workloads, groups=groups, gpus=gpus))

        members: dict[tuple[str, str], list[str]] = {}
        for tenant, quota in quotas.items():
            for accelerator, share in quota.shares.items():
                _check_nominal(self, tenant, accelerator, share.nominal)
                if quota.cohort:
                    members.setdefault((quota.cohort, accelerator), []).append(tenant)
                if not quota.cohort or share.borrow is not None:
                    add(tenant, [tenant], accelerator, share.nominal + (share.borrow or 0.0))
        for (cohort, accelerator), names in members.items():
            add(cohort, names, accelerator, sum(quotas[name].shares[accelerator].nominal for name in names))
        return tuple(ceiling for ceiling in limits if ceiling.workloads and ceiling.groups)

    @cached_property
    def usable_gpus(self) -> Array:
        """GPUs that one node of each pool provides on average, less what interruptions cost."""
        lost = [pool.interruption_per_hour * LOST_HOURS_PER_INTERRUPTION for pool in self.pools]
        return np.array([pool.gpus_per_node for pool in self.pools]) * np.maximum(0.0, 1.0 - np.array(lost))

    @cached_property
    def prices(self) -> Array:
        """Money per node-hour by pool and period, including the factors for the time of day."""
        base = np.array([[pool.price_per_node_hour] for pool in self.pools])
        return base * self._by_hour_of_day([pool.price_factors for pool in self.pools])

    @cached_property
    def grams(self) -> Array:
        """Grams of carbon dioxide for each kWh by pool and period."""
        factors = self._by_hour_of_day([pool.carbon_factors for pool in self.pools])
        return grams_per_kwh(self.pools, self.policy.grid, self.start, self.periods, factors)

    @cached_property
    def running_kw(self) -> Array:
        """Kilowatts that a node of each pool draws, whatever it does; all its power, where idling is not measured."""
        return np.array([pool.idle_kw_per_node or pool.power_kw_per_node for pool in self.pools])

    @cached_property
    def carbon(self) -> Array:
        """Kilograms of carbon dioxide per node-hour by pool and period, without what GPUs at work draw more."""
        return self.running_kw[:, None] * self.grams / 1000

    @cached_property
    def electricity(self) -> Array:
        """Money per node-hour for electricity by pool, without what GPUs at work draw more."""
        return self.running_kw * np.array([pool.electricity_per_kwh for pool in self.pools])

    def kw_at_work(self, g: int) -> float:
        """Return the kilowatts that a GPU of a group at work, without a cap, draws more than an idle one."""
        return self.pools[self.groups[g].pools[0]].kw_per_gpu_at_work

    @cached_property
    def energy(self) -> tuple[Array, Array]:
        """Money and kilograms of carbon dioxide for each kWh, each of shape (groups, periods).

        The money is what the electricity costs and what its carbon counts.
        """
        first = [group.pools[0] for group in self.groups]
        kilograms = self.grams[first] / 1000
        price = np.array([[self.pools[p].electricity_per_kwh] for p in first])
        return price + self.policy.carbon_price_per_kg * kilograms, kilograms

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """The caps under which work may run."""
        return modes_of(self)

    @cached_property
    def caps_carbon(self) -> bool:
        """Whether the carbon cap is kept on each path, because emissions depend on the work."""
        return any(self.kw_at_work(g) for g in range(len(self.groups))) and not self.hired

    @cached_property
    def carbon_room(self) -> float:
        """Kilograms that may be emitted: the cap, or what all nodes at work would emit."""
        most = np.array([pool.max_nodes * pool.power_kw_per_node for pool in self.pools])
        lengths = np.array(self.periods.lengths, dtype=float)
        cap = self.policy.carbon_cap_kg
        return float(most @ (self.grams / 1000) @ lengths) + 1.0 if cap is None else cap

    def _by_hour_of_day(self, factors: Sequence[tuple[float, ...]]) -> Array:
        """Average factors by hour of the day over each period."""
        day = np.array([given or (1.0,) * 24 for given in factors], dtype=float)
        return self.periods.means(day[:, (self.start.hour + np.arange(self.periods.hours)) % 24])

    @cached_property
    def start_hours(self) -> Array:
        """Node-hours that a start costs, by pool: a preference, plus the mean time that a new node waits for work."""
        return np.array([START_HOURS + early_hours(pool) for pool in self.pools])

    @cached_property
    def committed(self) -> tuple[int, ...]:
        """The pools whose nodes, once used, are paid for over the whole horizon."""
        return tuple(p for p, pool in enumerate(self.pools) if pool.kind == PoolKind.COMMITTED)

    @cached_property
    def deferrable(self) -> Array:
        """GPU-hours that each workload may have waiting at the end of each period; none at the end of the horizon."""
        amounts = self.demand * np.array(self.periods.lengths)
        bound = np.stack(
            [self.periods.window_sums(amounts[:, w], rule.defer_hours) for w, rule in enumerate(self.class_policies)],
            axis=1,
        )
        bound[:, :, -1] = 0.0
        return bound

    @cached_property
    def least(self) -> Counts:
        """Nodes that each pool is to run in each period: its minimum, and those that reservations use."""
        return np.maximum(self.held, np.array([[pool.min_nodes] for pool in self.pools]))

    @cached_property
    def floor(self) -> Counts:
        """Nodes that each pool must run in each period: the least, as far as its lead time allows."""
        floor = self.least.copy()
        for p, pool in enumerate(self.pools):
            upto = self.periods.first_after(pool.lead_time_hours)
            floor[p, :upto] = np.minimum(floor[p, :upto], self.now[p])
            floor[p] = np.minimum(floor[p], pool.max_nodes)
        return floor

    def money(self, nodes: Counts) -> Array:
        """Return the money that nodes cost by pool; committed ones are paid for over the whole horizon."""
        paid = nodes.copy()
        for p in self.committed:
            paid[p] = max(int(nodes[p].max()), min(self.now[p], self.pools[p].max_nodes))
        return (paid * self.prices) @ np.array(self.periods.lengths, dtype=float)

    @cached_property
    def unavoidable_cost(self) -> float:
        """Money that the nodes of `floor` cost, whatever is decided."""
        return float(self.money(self.floor).sum())

    @property
    def budget(self) -> float | None:
        """The budget that can be kept: never less than what the minimum nodes cost."""
        return None if self.settings.budget is None else max(self.settings.budget, self.unavoidable_cost)


def _check_nominal(problem: Problem, tenant: str, accelerator: str, nominal: float) -> None:
    """Refuse a nominal share of more than the fleet may have; of accelerators that it lacks any is allowed."""
    pools = [pool for pool in problem.pools if accelerator in (ANY, pool.accelerator)]
    most = float(sum(pool.gpus_per_node * pool.max_nodes for pool in pools))
    if (pools or accelerator == ANY) and nominal > most:
        raise InputError(
            f"quotas[{tenant}].shares[{accelerator}].nominal",
            nominal,
            f"is more than the {most:g} GPUs that the fleet may run: lower it, or raise max_nodes",
        )
