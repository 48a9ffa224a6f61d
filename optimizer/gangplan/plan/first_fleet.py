"""A first fleet for telemetry that has none: owned nodes for the base load, on demand and spot for the rest."""

from __future__ import annotations

import math

import polars as pl

from gangplan.errors import InputError
from gangplan.plan.problem import ANY, Catalogue, Price, read_catalogue
from gangplan.types import LAB, Fleet, Pool, PoolKind, Usage, WorkloadClass

UNNAMED = "gpu"
"""The accelerator of the pools drafted for telemetry that names none."""

OWNED_QUANTILE = 0.6
PEAK_FACTOR = 1.5
SPOT_SHARE = 0.5
SPOT_RISK_PER_HOUR = 0.05


def draft_fleet(usage: Usage, catalogue: Catalogue | None = None) -> Fleet:
    """Draft a fleet for what the telemetry asked for.

    Each accelerator gets an owned pool at about the 60th percentile of its hourly demand, an on-demand pool up to about
    1.5 times its peak, a spot pool where cost-bound work asks for it; work that takes any accelerator counts with the
    one most asked for. The small `h100-lab` pool is always there. Owned nodes run now; the rest is for the plan to say.
    """
    totals, catalogue = _totals(usage), catalogue or read_catalogue()
    prices = {accelerator: catalogue.price(accelerator) for accelerator in totals}
    pools = [pool for name, gpus in totals.items() for pool in _pools(name, gpus, usage, prices[name])]
    pools = [*(pool for pool in pools if pool.name != LAB.name), LAB]
    return Fleet(pools=tuple(pools), nodes={pool.name: pool.min_nodes for pool in pools})


def _totals(usage: Usage) -> dict[str, pl.Series]:
    """Give each accelerator's hourly GPUs asked for, work that takes any added to the largest."""
    hourly = usage.demand.group_by("hour", "accelerator").agg(pl.col("gpus").sum())
    if hourly.is_empty() or not hourly["gpus"].sum() > 0:
        raise InputError("usage.demand", usage.source, "asks for no GPU: ingest telemetry that does")
    size: dict[str, float] = dict(hourly.group_by("accelerator").agg(pl.col("gpus").sum()).iter_rows())
    named = {name: total for name, total in size.items() if name not in (ANY, LAB.accelerator)}
    largest = max(named, key=lambda name: (named[name], name)) if named else UNNAMED
    homes = hourly.with_columns(pl.col("accelerator").replace({ANY: largest}))
    totals = homes.group_by("hour", "accelerator").agg(pl.col("gpus").sum()).sort("accelerator", "hour")
    return {str(name[0]): rows["gpus"] for name, rows in totals.group_by("accelerator", maintain_order=True)}


def _pools(accelerator: str, gpus: pl.Series, usage: Usage, price: Price) -> list[Pool]:
    """Draft one accelerator's pools."""
    size = price.gpus_per_node
    peak = float(gpus.max() or 0.0)  # pyright: ignore[reportArgumentType]
    if accelerator == LAB.accelerator or peak <= 0:
        return []
    owned = max(1, round(float(gpus.quantile(OWNED_QUANTILE) or 0.0) / size))
    most = max(1, math.ceil(PEAK_FACTOR * peak / size))
    pools = [
        _pool(f"{accelerator}-owned", accelerator, price, PoolKind.OWNED, most=owned, least=owned),
        _pool(f"{accelerator}-on-demand", accelerator, price, PoolKind.ON_DEMAND, most=most, lead=1),
    ]
    if _has_cost_work(usage, accelerator):
        spot = max(1, math.ceil(SPOT_SHARE * peak / size))
        pools.append(
            _pool(f"{accelerator}-spot", accelerator, price, PoolKind.SPOT, most=spot, lead=1, risk=SPOT_RISK_PER_HOUR)
        )
    return pools


def _has_cost_work(usage: Usage, accelerator: str) -> bool:
    """Whether cost-bound work asks for that accelerator."""
    cost = (pl.col("workload_class") == WorkloadClass.COST.value) & (pl.col("accelerator") == accelerator)
    return usage.demand.filter(cost & (pl.col("gpus") > 0)).height > 0


def _pool(
    name: str,
    accelerator: str,
    price: Price,
    kind: PoolKind,
    *,
    most: int,
    least: int = 0,
    lead: int = 0,
    risk: float = 0.0,
) -> Pool:
    """Make a pool at the catalogue's price."""
    return Pool(
        name=name,
        accelerator=accelerator,
        gpus_per_node=price.gpus_per_node,
        kind=kind,
        price_per_node_hour=price.per_node(kind),
        min_nodes=least,
        max_nodes=most,
        lead_time_hours=lead,
        interruption_per_hour=risk,
    )
