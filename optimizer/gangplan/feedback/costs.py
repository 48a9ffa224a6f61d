"""What the plan's nodes cost, and how many GPU-hours were not served or not used.

The nodes that ran are taken to be the plan's; of spot nodes, the share that is interrupted does not count. Neither does
a cell (hour, accelerator) in which any series' demand is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from gangplan.config import Settings
from gangplan.types import ANY, CLASS_RULES, Outcome, Plan, PoolKind, WorkloadClass

Cell = tuple[datetime, str]

_NOTHING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Planned and realised cost in money, unserved and idle GPU-hours."""

    planned_cost: float
    realised_cost: float
    unserved_gpu_hours: float
    idle_gpu_hours: float


def costs_of(plan: Plan, outcome: Outcome, start: datetime, end: datetime) -> Costs:
    """Return what the hours from `start` up to `end` cost."""
    span = pl.col("hour").is_between(start, end, "left")
    demand, nodes = outcome.demand.filter(span), plan.nodes.filter(span)
    unknown = demand.filter(pl.col("gpus").is_null()).select("hour", "accelerator")
    missing = set(unknown.iter_rows())
    hours = sorted(set(demand.filter(pl.col("gpus").is_not_null())["hour"]) & set(nodes["hour"]))
    capacities, price = _capacities(nodes, plan, demand)
    known = [
        {name: capacity for name, capacity in capacities[hour].items() if not _unknown(hour, name, missing)}
        for hour in hours
    ]
    served = serve(known, [_work(demand, hour, index) for index, hour in enumerate(hours)])
    running = sum(price.get((hour, name), 0.0) for hour, cell in zip(hours, known, strict=True) for name in cell)
    foreseen = plan.shortage.filter(pl.col("hour").is_in(hours))
    return Costs(
        planned_cost=running + _shortage_cost(plan, _expected(foreseen, missing)),
        realised_cost=running + _shortage_cost(plan, served.unserved),
        unserved_gpu_hours=sum(served.unserved.values()),
        idle_gpu_hours=served.idle,
    )


def _unknown(hour: datetime, accelerator: str, missing: set[Cell]) -> bool:
    """Return whether a cell does not count; unknown demand for any accelerator concerns all cells of its hour."""
    return (hour, accelerator) in missing or (hour, ANY) in missing


def _capacities(
    nodes: pl.DataFrame, plan: Plan, demand: pl.DataFrame
) -> tuple[dict[datetime, dict[str, Capacity]], dict[Cell, float]]:
    """Return the GPUs by hour and accelerator (0 for one that no pool has), and the money by cell."""
    pools = {pool.name: pool for pool in plan.fleet.pools}
    asked = set(demand["accelerator"]) - {ANY}
    capacities = {hour: {name: Capacity() for name in asked} for hour in set(nodes["hour"])}
    money: dict[Cell, float] = {}
    for hour, name, count in nodes.select("hour", "pool", "nodes").iter_rows():
        pool = pools[name]
        gpus = count * pool.gpus_per_node * (1 - pool.interruption_per_hour)
        capacity = capacities[hour].setdefault(pool.accelerator, Capacity())
        capacity.spot += gpus if pool.kind is PoolKind.SPOT else 0.0
        capacity.firm += gpus if pool.kind is not PoolKind.SPOT else 0.0
        cell = (hour, pool.accelerator)
        money[cell] = money.get(cell, 0.0) + count * pool.price_per_node_hour
    return capacities, money


def _work(demand: pl.DataFrame, hour: datetime, index: int) -> list[Work]:
    rows = demand.filter(pl.col("hour") == hour, pl.col("gpus") > 0)
    return [
        Work(workload_class=kind, accelerator=name, gpus=gpus, due=index + CLASS_RULES[kind].defer_hours)
        for text, name, gpus in rows.select("workload_class", "accelerator", "gpus").iter_rows()
        for kind in [WorkloadClass(text)]
    ]


def _expected(shortage: pl.DataFrame, missing: set[Cell]) -> dict[WorkloadClass, float]:
    """Return the shortage that the plan expected, in GPU-hours by class."""
    expected = dict.fromkeys(WorkloadClass, 0.0)
    for hour, kind, name, gpus in shortage.select("hour", "workload_class", "accelerator", "expected_gpus").iter_rows():
        if not _unknown(hour, name, missing):
            expected[WorkloadClass(kind)] += gpus
    return expected


def _shortage_cost(plan: Plan, gpu_hours: Mapping[WorkloadClass, float]) -> float:
    usual = float(Settings.model_fields["shortage_price"].default)
    price = plan.settings.get("shortage_price") or usual
    return price * sum(CLASS_RULES[kind].shortage_factor * gpus for kind, gpus in gpu_hours.items())


@dataclass(kw_only=True)
class Capacity:
    """The free GPUs of one accelerator in one hour; work takes them away."""

    firm: float = 0.0
    spot: float = 0.0

    @property
    def free(self) -> float:
        """All GPUs that are left."""
        return self.firm + self.spot

    def take(self, gpus: float, *, spot: bool) -> float:
        """Take up to that many GPUs, first those on spot nodes if `spot` allows it; return how many were taken."""
        from_spot = min(gpus, self.spot) if spot else 0.0
        from_firm = min(gpus - from_spot, self.firm)
        self.spot -= from_spot
        self.firm -= from_firm
        return from_spot + from_firm


@dataclass(kw_only=True)
class Work:
    """GPU-hours of one class that were asked for in one hour and must be served by the hour `due`."""

    workload_class: WorkloadClass
    accelerator: str
    gpus: float
    due: int


@dataclass(kw_only=True)
class Served:
    """The GPU-hours of work that were not served, by class, and the GPU-hours of nodes that were not used."""

    unserved: dict[WorkloadClass, float] = field(default_factory=lambda: dict.fromkeys(WorkloadClass, 0.0))
    idle: float = 0.0


def serve(capacities: Sequence[Mapping[str, Capacity]], asked: Sequence[Iterable[Work]]) -> Served:
    """Serve the work of each hour in the order of its due hours; keep what may wait for the next hours.

    An accelerator without a capacity in an hour (its demand is unknown) serves nothing, and work for it does not become
    overdue in that hour. Work that could still wait when the hours end counts as neither served nor unserved.
    """
    result, queue = Served(), list[Work]()
    for hour, (free, new) in enumerate(zip(capacities, asked, strict=True)):
        queue = sorted([*queue, *new], key=lambda work: (work.due, work.accelerator == ANY))
        for work in queue:
            fitting = [capacity for name, capacity in free.items() if work.accelerator in (ANY, name)]
            for capacity in fitting:
                work.gpus -= capacity.take(work.gpus, spot=CLASS_RULES[work.workload_class].spot)
            if work.due <= hour and fitting:
                result.unserved[work.workload_class] += work.gpus
                work.gpus = 0.0
        queue = [work for work in queue if work.gpus > _NOTHING]
        result.idle += sum(capacity.free for capacity in free.values())
    return result
