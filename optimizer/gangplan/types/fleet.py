"""The fleet: pools of nodes, how they are paid for, and for which term."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from math import ceil
from typing import ClassVar

from gangplan.errors import InputError
from gangplan.types.checks import require_at_least, require_name, require_slot, require_whole

WHOLE_GPU = "gpu"
"""The slot of a pool whose GPUs are not divided: one whole GPU."""


class PoolKind(StrEnum):
    """How the nodes of a pool are paid for and whether they may be taken away."""

    OWNED = "owned"
    COMMITTED = "committed"
    ON_DEMAND = "on_demand"
    SPOT = "spot"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Nodes of one kind: GPUs per node, price in money per node-hour, limits in nodes.

    A pool whose GPUs are divided names the part (a MIG profile as 1g.10gb, a fraction as 1/4) as its `slot`, and how
    many of them a GPU has; only requests that name this slot get them. `price_factors` and `carbon_factors` are factors
    on the price and on the carbon intensity, one for each hour of the day (UTC). A node draws `power_kw_per_node` with
    all GPUs at work and no cap, and `idle_kw_per_node`, where that was measured, with none; its owner pays
    `electricity_per_kwh` beside the price. Nodes of a committed pool, once taken, cost money through the whole horizon;
    a node runs at least `minimum_up_hours`. `startup_minutes_p50` and
    `startup_minutes_p95` are the median and the 95 % quantile of the minutes from a node's order to its first work:
    orders are placed that long ahead, and `lead_time_hours`, after which a plan counts new nodes, must cover it.
    """

    name: str
    accelerator: str
    gpus_per_node: int
    kind: PoolKind
    price_per_node_hour: float
    min_nodes: int = 0
    max_nodes: int
    lead_time_hours: int = 0
    startup_minutes_p50: float = 0.0
    startup_minutes_p95: float = 0.0
    interruption_per_hour: float = 0.0
    region: str = "local"
    zone: str = "local-a"
    nodes_per_rack: int = 8
    nodes_per_nvlink: int = 1
    slot: str = WHOLE_GPU
    slots_per_gpu: int = 1
    minimum_up_hours: int = 0
    price_factors: tuple[float, ...] = ()
    power_kw_per_node: float = 0.0
    idle_kw_per_node: float = 0.0
    electricity_per_kwh: float = 0.0
    carbon_g_per_kwh: float = 0.0
    carbon_factors: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # a misspelt field of the fleet file is refused

    def __post_init__(self) -> None:
        prefix = f"pools[{self.name}]"
        require_name("pools.name", self.name)
        require_name(f"{prefix}.accelerator", self.accelerator)
        for name in ("gpus_per_node", "nodes_per_rack", "nodes_per_nvlink", "slots_per_gpu"):
            require_at_least(f"{prefix}.{name}", getattr(self, name), 1)
        for name in ("price_per_node_hour", "min_nodes", "lead_time_hours", "minimum_up_hours", "startup_minutes_p50"):
            require_at_least(f"{prefix}.{name}", getattr(self, name), 0)
        for name in ("idle_kw_per_node", "electricity_per_kwh", "carbon_g_per_kwh"):
            require_at_least(f"{prefix}.{name}", getattr(self, name), 0)
        require_at_least(f"{prefix}.power_kw_per_node", self.power_kw_per_node, self.idle_kw_per_node)
        require_at_least(f"{prefix}.max_nodes", self.max_nodes, self.min_nodes)
        require_slot(f"{prefix}.slot", self.slot)
        if self.slot == WHOLE_GPU and self.slots_per_gpu != 1:
            raise InputError(f"{prefix}.slots_per_gpu", self.slots_per_gpu, "must be 1 where the slot is a whole gpu")
        if not 0 <= self.interruption_per_hour < 1:
            raise InputError(f"{prefix}.interruption_per_hour", self.interruption_per_hour, "must be from 0 to below 1")
        self._check_startup(prefix)
        for name in ("price_factors", "carbon_factors"):
            self._check_factors(f"{prefix}.{name}", getattr(self, name))

    def _check_startup(self, prefix: str) -> None:
        """Refuse start-up quantiles out of order, and a lead time that does not cover them."""
        median, most = self.startup_minutes_p50, self.startup_minutes_p95
        require_at_least(f"{prefix}.startup_minutes_p95", most, median)
        if most > 0 and median <= 0:
            raise InputError(f"{prefix}.startup_minutes_p50", median, "must be given too, and be greater than 0")
        if most > 60 * self.lead_time_hours:
            raise InputError(
                f"{prefix}.lead_time_hours",
                self.lead_time_hours,
                f"is shorter than the {most:g} minutes that 95 of 100 starts take: set it to {ceil(most / 60)}",
            )

    def _check_factors(self, name: str, factors: tuple[float, ...]) -> None:
        """Refuse anything but 24 factors, one for each hour of the day, or none."""
        if len(factors) not in (0, 24):
            remedy = "must be 24, one for each hour of the day in UTC, or none"
            raise InputError(name, f"{len(factors)} factors", remedy)
        for factor in factors:
            require_at_least(name, factor, 0)

    @property
    def kw_per_gpu_at_work(self) -> float:
        """Kilowatts that a GPU at work, without a cap, draws more than an idle one; 0 where idling was not measured."""
        measured = self.idle_kw_per_node > 0
        return (self.power_kw_per_node - self.idle_kw_per_node) / self.gpus_per_node if measured else 0.0

    @property
    def slots_per_node(self) -> int:
        """The slots of a node: its GPUs, or all their parts."""
        return self.gpus_per_node * self.slots_per_gpu


@dataclass(frozen=True, kw_only=True)
class Term:
    """The price of nodes of a committed pool that are bought for `months`, in money per node-hour."""

    pool: str
    months: int
    price_per_node_hour: float

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        require_name("terms.pool", self.pool)
        require_whole(f"terms[{self.pool}].months", self.months, 1, 120)
        require_at_least(f"terms[{self.pool}].price_per_node_hour", self.price_per_node_hour, 0)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The pools, and the number of nodes that each runs now.

    `terms` are offers to buy nodes of committed pools. `committed_until` names the day on which the contract for a
    committed pool's present nodes ends; a pool that is not in it has a contract without an end.
    """

    pools: tuple[Pool, ...]
    nodes: dict[str, int] = field(default_factory=dict[str, int])
    terms: tuple[Term, ...] = ()
    committed_until: dict[str, date] = field(default_factory=dict[str, date])

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if not names:
            raise InputError("pools", "[]", "is empty: name at least one pool")
        for name in names:
            if names.count(name) > 1:
                raise InputError("pools.name", name, "stands twice: give each pool a name of its own")
        for name, count in self.nodes.items():
            self.pool(name)
            require_at_least(f"nodes[{name}]", count, 0)
        self._check_terms()

    def _check_terms(self) -> None:
        """Refuse terms of a pool that is not committed, and the same term twice."""
        for name in (*(term.pool for term in self.terms), *self.committed_until):
            if self.pool(name).kind != PoolKind.COMMITTED:
                raise InputError(f"terms[{name}]", self.pool(name).kind.value, "is of no committed pool: set its kind")
        offers = [(term.pool, term.months) for term in self.terms]
        for pool, months in offers:
            if offers.count((pool, months)) > 1:
                raise InputError(f"terms[{pool}].months", months, "stands twice: give each term one price")

    def most_gpus(self) -> dict[str, float]:
        """Return the most GPUs of each accelerator that the pools may have together."""
        gpus: dict[str, float] = {}
        for pool in self.pools:
            gpus[pool.accelerator] = gpus.get(pool.accelerator, 0.0) + pool.gpus_per_node * pool.max_nodes
        return gpus

    def pool(self, name: str) -> Pool:
        """Return the pool of that name, or refuse the name."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise InputError.unknown("pool", name, "not in the fleet", [pool.name for pool in self.pools])


LAB = Pool(
    name="h100-lab",
    accelerator="h100-lab",
    gpus_per_node=4,
    kind=PoolKind.OWNED,
    price_per_node_hour=7.02,
    min_nodes=2,
    max_nodes=2,
)
"""The small pool of every first fleet; the examples use it, because two of them must share its slots."""
