"""What the plan's nodes cost and left unserved or idle, hour by hour and accelerator by accelerator.

Demand is held against the GPUs of its own accelerator in its own hour. A cell (hour, accelerator) in which any series
is missing is kept out, on both sides. Unserved GPU-hours are priced as the plan priced the shortage that it foresaw.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from gangplan.config import Settings
from gangplan.types import Fleet, Outcome, Plan

_CELL = ["hour", "accelerator"]


@dataclass(frozen=True, kw_only=True)
class Money:
    """Planned and realised cost in money; unserved and idle in GPU-hours."""

    planned: float
    realised: float
    unserved_gpu_hours: float
    idle_gpu_hours: float


def settle(plan: Plan, outcome: Outcome, start: datetime, end: datetime) -> Money:
    """Add up the cells from `start` up to `end` whose demand is known."""
    cells = _cells(plan, outcome, start, end)
    price = shortage_price(plan)
    sums: dict[str, float] = cells.select(
        pl.col("money").sum(),
        pl.col("expected_gpus").sum().alias("foreseen"),
        (pl.col("gpus") - pl.col("capacity")).clip(lower_bound=0).sum().alias("unserved"),
        (pl.col("capacity") - pl.col("gpus")).clip(lower_bound=0).sum().alias("idle"),
    ).row(0, named=True)
    return Money(
        planned=sums["money"] + price * sums["foreseen"],
        realised=sums["money"] + price * sums["unserved"],
        unserved_gpu_hours=sums["unserved"],
        idle_gpu_hours=sums["idle"],
    )


def shortage_price(plan: Plan) -> float:
    """Money per unserved GPU-hour: what the plan reckoned for the shortage it foresaw, else the setting's default."""
    foreseen = float(plan.shortage["expected_gpus"].sum())
    money = plan.total_cost - float(plan.cost["cost"].sum())
    if foreseen > 1e-6 and money > 0:
        return money / foreseen
    return float(Settings.model_fields["shortage_price"].default)


def _cells(plan: Plan, outcome: Outcome, start: datetime, end: datetime) -> pl.DataFrame:
    """One row a cell: GPUs planned and their money, shortage foreseen, GPUs asked for."""
    span = pl.col("hour").is_between(start, end, "left")
    asked = _asked(outcome.demand.filter(span))
    known = asked.filter(pl.col("missing").not_()).select("hour").unique()
    foreseen = plan.shortage.filter(span).group_by(_CELL).agg(pl.col("expected_gpus").sum())
    planned = _planned(plan.nodes.filter(span), plan.fleet)
    cells = planned.join(asked, on=_CELL, how="full", coalesce=True).join(foreseen, on=_CELL, how="left")
    cells = cells.with_columns(pl.col("missing").fill_null(value=False)).filter(pl.col("missing").not_())
    cells = cells.join(known, on="hour", how="semi").join(plan.nodes.select("hour").unique(), on="hour", how="semi")
    return cells.with_columns(pl.col("money", "capacity", "gpus", "expected_gpus").fill_null(0.0))


def _asked(demand: pl.DataFrame) -> pl.DataFrame:
    """GPUs asked for by cell, and whether any series of it is missing."""
    return demand.group_by(_CELL).agg(pl.col("gpus").sum(), pl.col("gpus").is_null().any().alias("missing"))


def _planned(nodes: pl.DataFrame, fleet: Fleet) -> pl.DataFrame:
    """GPUs and money by cell of the nodes that ran."""
    shapes: list[dict[str, Any]] = [
        {
            "pool": pool.name,
            "accelerator": pool.accelerator,
            "size": pool.gpus_per_node,
            "price": pool.price_per_node_hour,
        }
        for pool in fleet.pools
    ]
    count = pl.col("nodes")
    return (
        nodes.join(pl.DataFrame(shapes), on="pool")
        .group_by(_CELL)
        .agg(
            (count * pl.col("size")).sum().cast(pl.Float64).alias("capacity"),
            (count * pl.col("price")).sum().alias("money"),
        )
    )
