"""The plan as a stacked area of GPUs by pool, beside the demand it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan import pages
from gangplan.report.demand import total_forecast
from gangplan.types import ANY, Forecast, Plan, Pool, PoolKind

_ORDER = (PoolKind.OWNED, PoolKind.COMMITTED, PoolKind.ON_DEMAND, PoolKind.SPOT)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A pool and the role of its colour."""

    pool: Pool
    role: str

    @property
    def hatched(self) -> bool:
        """Whether it is hatched: its nodes may be taken away."""
        return self.pool.kind is PoolKind.SPOT


def layers(plan: Plan) -> list[Layer]:
    """Return the pools that the plan uses, owned ones at the bottom, spot ones on top."""
    used = set(plan.nodes.filter(pl.col("nodes") > 0)["pool"])
    pools = sorted(plan.fleet.pools, key=lambda pool: (_ORDER.index(pool.kind), pool.accelerator, pool.name))
    shown = [pool for pool in pools if pool.name in used]
    return [
        Layer(pool=pool, role=pages.SERIES_ROLES[index % len(pages.SERIES_ROLES)]) for index, pool in enumerate(shown)
    ]


def draw_plan(plan: Plan, forecast: Forecast) -> str:
    """Draw all pools and all demand."""
    with pages.style():
        return _draw(plan, forecast.quantiles, "plan", "Planned GPUs by pool and the demand forecast")


def draw_by_accelerator(plan: Plan, forecast: Forecast) -> list[tuple[str, str]]:
    """Draw each accelerator's pools beside its own demand: its name and its SVG."""
    asked = set(forecast.quantiles["accelerator"]) - {ANY}
    parts = enumerate(sorted({layer.pool.accelerator for layer in layers(plan)} | asked))
    with pages.style():
        return [
            (kind, _draw(plan, forecast.quantiles, f"plan{index}", f"Planned GPUs and demand of {kind}", kind))
            for index, kind in parts
        ]


def _draw(plan: Plan, quantiles: pl.DataFrame, name: str, title: str, accelerator: str | None = None) -> str:
    """Draw nodes as a stack of steps, and demand over it as lines, all or those of one accelerator."""
    if accelerator is not None:
        quantiles = quantiles.filter(pl.col("accelerator") == accelerator)
    wanted = total_forecast(quantiles)
    stack = [layer for layer in layers(plan) if accelerator in (None, layer.pool.accelerator)]
    edges, heights = _steps(plan, stack)
    base = np.zeros(len(edges))
    figure, axes = pages.new_axes(3.7, 1.9) if accelerator else pages.new_axes(11, 3.7)
    for layer, height in zip(stack, heights, strict=True):
        hatch = "////" if layer.hatched else None
        pages.steps(axes, edges, base, base + height, layer.role, hatch=hatch, linewidth=0.4)
        base = base + height
    hours = pages.times(wanted["hour"].to_list())
    pages.band(axes, hours, wanted["q0.1"].to_numpy(), wanted["q0.9"].to_numpy(), "ink", 0.15)
    for column, width, dashes in (("q0.5", 1.5, "-"), ("q0.95", 1.1, (0, (4, 2)))):
        pages.line(axes, hours, wanted[column].to_numpy(), width, dashes)
    pages.gpus_over_time(axes, ticks=6 if accelerator else 10)
    return pages.to_svg(figure, name, title, _describe(plan, wanted, accelerator))


def _steps(plan: Plan, stack: list[Layer]) -> tuple[list[float], list[NDArray[np.float64]]]:
    """Return the hours with the end of the last one, and the GPUs of each layer at each of them."""
    hours = sorted(set(plan.nodes["hour"]))
    grid = pl.DataFrame({"hour": hours}, schema={"hour": plan.nodes.schema["hour"]})
    heights: list[NDArray[np.float64]] = []
    for layer in stack:
        rows = plan.nodes.filter(pl.col("pool") == layer.pool.name)
        nodes = grid.join(rows, on="hour", how="left", maintain_order="left")["nodes"].fill_null(0).to_numpy()
        heights.append(np.append(nodes, nodes[-1]).astype(float) * layer.pool.gpus_per_node)
    return pages.times([*hours, hours[-1] + timedelta(hours=1)] if hours else []), heights


def planned_gpus(plan: Plan, accelerator: str | None = None) -> pl.DataFrame:
    """Return the GPUs planned by hour, of one accelerator or of all."""
    sizes = {pool.name: pool.gpus_per_node for pool in plan.fleet.pools if accelerator in (None, pool.accelerator)}
    rows = plan.nodes.filter(pl.col("pool").is_in(list(sizes)))
    gpus = pl.col("nodes") * pl.col("pool").replace_strict(sizes, default=0, return_dtype=pl.Int64)
    return rows.group_by("hour", maintain_order=True).agg(gpus.sum().alias("gpus")).sort("hour")


def _describe(plan: Plan, wanted: pl.DataFrame, accelerator: str | None = None) -> str:
    planned = planned_gpus(plan, accelerator)
    supply = "No GPUs are planned."
    if not planned.is_empty():
        least, most = planned.select(pl.col("gpus").min().alias("least"), pl.col("gpus").max().alias("most")).row(0)
        supply = f"Planned: {pages.number(least)} to {pages.number(most)} GPUs."
    if wanted.is_empty():
        return f"{supply} No demand is forecast."
    peak = wanted.sort("q0.95", descending=True).row(0, named=True)
    return f"{supply} Highest 0.95 demand: {pages.number(peak['q0.95'])} GPUs at {pages.moment(peak['hour'])} UTC."
