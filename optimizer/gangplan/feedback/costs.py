"""What the plan's nodes cost, and what they left unserved or idle.

The nodes that ran are the plan's; spot nodes count less their rate of interruption. Demand is served as its class
allows (see `service`). A cell (hour, accelerator) in which any series' demand is missing is kept out on both sides.
Money is the nodes' price plus the shortage at the price, by class, that the plan was solved with: the planned cost has
the shortage that the plan expected, the realised cost the one that came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from gangplan.config import Settings
from gangplan.feedback.service import Room, Work, serve
from gangplan.types import ANY, CLASS_RULES, Outcome, Plan, Pool, PoolKind, WorkloadClass

Cell = tuple[datetime, str]


@dataclass(frozen=True, kw_only=True)
class Money:
    """Planned and realised cost in money; unserved and idle in GPU-hours."""

    planned: float
    realised: float
    unserved_gpu_hours: float
    idle_gpu_hours: float


def settle(plan: Plan, outcome: Outcome, start: datetime, end: datetime) -> Money:
    """Add up the hours from `start` up to `end`."""
    span = pl.col("hour").is_between(start, end, "left")
    demand, nodes = outcome.demand.filter(span), plan.nodes.filter(span)
    missing = _missing(demand)
    hours = sorted(set(demand.filter(pl.col("gpus").is_not_null())["hour"]) & set(nodes["hour"]))
    rooms, price = _rooms(nodes, plan, demand)
    known = [
        {name: room for (at, name), room in rooms.items() if at == hour and not _unknown(hour, name, missing)}
        for hour in hours
    ]
    served = serve(known, [_work(demand, hour, index) for index, hour in enumerate(hours)])
    running = sum(price.get((hour, name), 0.0) for hour, cell in zip(hours, known, strict=True) for name in cell)
    foreseen = plan.shortage.filter(pl.col("hour").is_in(hours))
    return Money(
        planned=running + _shortage_cost(plan, _expected(foreseen, missing)),
        realised=running + _shortage_cost(plan, served.unserved),
        unserved_gpu_hours=sum(served.unserved.values()),
        idle_gpu_hours=served.idle,
    )


def _missing(demand: pl.DataFrame) -> set[Cell]:
    """The cells of which not all demand is known."""
    rows = demand.filter(pl.col("gpus").is_null()).select("hour", "accelerator")
    return set(rows.iter_rows())


def _unknown(hour: datetime, accelerator: str, missing: set[Cell]) -> bool:
    """Whether a cell is kept out; demand that any pool may serve is missing in all of them."""
    return (hour, accelerator) in missing or (hour, ANY) in missing


def _rooms(nodes: pl.DataFrame, plan: Plan, demand: pl.DataFrame) -> tuple[dict[Cell, Room], dict[Cell, float]]:
    """GPUs and money by cell; an accelerator that is asked for and that no pool has gets empty rooms."""
    pools = {pool.name: pool for pool in plan.fleet.pools}
    asked = set(demand["accelerator"]) - {ANY}
    rooms = {(hour, name): Room() for hour in set(nodes["hour"]) for name in asked}
    money: dict[Cell, float] = {}
    for hour, name, count in nodes.select("hour", "pool", "nodes").iter_rows():
        pool = pools[name]
        cell = (hour, pool.accelerator)
        _add(rooms.setdefault(cell, Room()), pool, count)
        money[cell] = money.get(cell, 0.0) + count * pool.price_per_node_hour
    return rooms, money


def _add(room: Room, pool: Pool, nodes: int) -> None:
    """Add a pool's GPUs to its accelerator's."""
    gpus = nodes * pool.gpus_per_node * (1 - pool.interruption_per_hour)
    if pool.kind is PoolKind.SPOT:
        room.spot += gpus
    else:
        room.firm += gpus


def _work(demand: pl.DataFrame, hour: datetime, index: int) -> list[Work]:
    """What was asked for in an hour."""
    rows = demand.filter(pl.col("hour") == hour, pl.col("gpus") > 0)
    return [
        Work(
            workload_class=WorkloadClass(kind),
            accelerator=accelerator,
            gpus=gpus,
            due=index + CLASS_RULES[WorkloadClass(kind)].defer_hours,
        )
        for kind, accelerator, gpus in rows.select("workload_class", "accelerator", "gpus").iter_rows()
    ]


def _expected(shortage: pl.DataFrame, missing: set[Cell]) -> dict[WorkloadClass, float]:
    """The shortage that the plan foresaw, in GPU-hours by class."""
    found = dict.fromkeys(WorkloadClass, 0.0)
    for hour, kind, name, gpus in shortage.select("hour", "workload_class", "accelerator", "expected_gpus").iter_rows():
        if not _unknown(hour, name, missing):
            found[WorkloadClass(kind)] += gpus
    return found


def _shortage_cost(plan: Plan, gpu_hours: Mapping[WorkloadClass, float]) -> float:
    """Money for GPU-hours that are not served."""
    usual = float(Settings.model_fields["shortage_price"].default)
    price = plan.settings.get("shortage_price") or usual
    return price * sum(CLASS_RULES[kind].shortage_factor * gpus for kind, gpus in gpu_hours.items())
