"""A first fleet for telemetry without one: owned nodes for the base load, on-demand and spot nodes for the rest."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl

from gangplan.errors import InputError
from gangplan.plan.problem import Catalogue, Price, read_catalogue
from gangplan.types import ANY, LAB, Fleet, Pool, PoolKind, Usage, WorkloadClass

UNNAMED = "gpu"
"""The accelerator of pools that are drafted for telemetry without accelerator names."""

OWNED_QUANTILE = 0.6  # of the hourly demand
PEAK_FACTOR = 1.5  # of the peak: the most on-demand nodes
SPOT_SHARE = 0.5  # of the peak: the most spot nodes
SPOT_RISK_PER_HOUR = 0.05


def draft_fleet(usage: Usage, catalogue: Catalogue | None = None) -> Fleet:
    """Draft a fleet for the demand of the telemetry.

    Each accelerator gets an owned pool of about the 60th percentile of its hourly demand, an on-demand pool of up to
    about 1.5 times its peak, and a spot pool if cost-bound work asks for it. Work that takes any accelerator counts for
    the one with the most demand. There always is the small `h100-lab` pool. Owned nodes run now; the plan decides on
    the others.
    """
    totals, catalogue = _totals(usage), catalogue or read_catalogue()
    prices = {accelerator: catalogue.price(accelerator) for accelerator in totals}
    pools = [pool for name, gpus in totals.items() for pool in _pools(name, gpus, usage, prices[name])]
    pools = [*(pool for pool in pools if pool.name != LAB.name), LAB]
    return Fleet(pools=tuple(pools), nodes={pool.name: pool.min_nodes for pool in pools})


def _totals(usage: Usage) -> dict[str, pl.Series]:
    """Return the hourly GPUs asked for by accelerator; work that takes any counts for the largest."""
    hourly = usage.demand.group_by("hour", "accelerator").agg(pl.col("gpus").sum())
    if hourly.is_empty() or not hourly["gpus"].sum() > 0:
        raise InputError("usage.demand", usage.source, "asks for no GPU: ingest telemetry that does")
    sums: dict[str, float] = dict(hourly.group_by("accelerator").agg(pl.col("gpus").sum()).iter_rows())
    named = {name: total for name, total in sums.items() if name not in (ANY, LAB.accelerator)}
    largest = max(named, key=lambda name: (named[name], name)) if named else UNNAMED
    assigned = hourly.with_columns(pl.col("accelerator").replace({ANY: largest}))
    totals = assigned.group_by("hour", "accelerator").agg(pl.col("gpus").sum()).sort("accelerator", "hour")
    return {str(name[0]): rows["gpus"] for name, rows in totals.group_by("accelerator", maintain_order=True)}


def _pools(accelerator: str, gpus: pl.Series, usage: Usage, price: Price) -> list[Pool]:
    """Draft one accelerator's pools, at the catalogue's price."""
    size, peak = price.gpus_per_node, max(gpus.to_list(), default=0.0)
    if accelerator == LAB.accelerator or peak <= 0:
        return []
    owned = max(1, round(float(gpus.quantile(OWNED_QUANTILE) or 0.0) / size))
    base = Pool(
        name=f"{accelerator}-owned",
        accelerator=accelerator,
        gpus_per_node=size,
        kind=PoolKind.OWNED,
        price_per_node_hour=price.per_node(PoolKind.OWNED),
        min_nodes=owned,
        max_nodes=owned,
    )
    pools = [base, _by_the_hour(base, PoolKind.ON_DEMAND, price, PEAK_FACTOR * peak)]
    cost = (pl.col("workload_class") == WorkloadClass.COST.value) & (pl.col("accelerator") == accelerator)
    if usage.demand.filter(cost & (pl.col("gpus") > 0)).height:
        spot = _by_the_hour(base, PoolKind.SPOT, price, SPOT_SHARE * peak)
        pools.append(replace(spot, interruption_per_hour=SPOT_RISK_PER_HOUR))
    return pools


def _by_the_hour(base: Pool, kind: PoolKind, price: Price, most_gpus: float) -> Pool:
    """Return a pool like `base` of nodes that come within the hour, up to so many GPUs."""
    return replace(
        base,
        name=f"{base.accelerator}-{kind.value.replace('_', '-')}",
        kind=kind,
        price_per_node_hour=price.per_node(kind),
        min_nodes=0,
        max_nodes=max(1, math.ceil(most_gpus / base.gpus_per_node)),
        lead_time_hours=1,
    )
