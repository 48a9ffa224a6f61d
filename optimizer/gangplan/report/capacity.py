# pyright: reportUnknownMemberType=false
"""The plan as a stacked area of GPUs by pool, beside the demand it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from gangplan.pages import LIGHT, SERIES_ROLES, gpus_over_time, moment, new_axes, number, style, times, to_svg
from gangplan.types import Forecast, Plan, Pool, PoolKind

_ORDER = (PoolKind.OWNED, PoolKind.COMMITTED, PoolKind.ON_DEMAND, PoolKind.SPOT)
OPACITY = 0.85
_ANY = "any"  # demand that any pool may serve


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A pool, its colour's role, and whether it is hatched (spot: it may be taken away)."""

    pool: Pool
    role: str

    @property
    def hatched(self) -> bool:
        """Whether its nodes may be taken away."""
        return self.pool.kind is PoolKind.SPOT


def layers(plan: Plan) -> list[Layer]:
    """The pools that the plan uses, the firmest at the bottom, each with its colour."""
    used = set(plan.nodes.filter(pl.col("nodes") > 0)["pool"])
    pools = sorted(plan.fleet.pools, key=lambda pool: (_ORDER.index(pool.kind), pool.accelerator, pool.name))
    shown = [pool for pool in pools if pool.name in used]
    return [Layer(pool=pool, role=SERIES_ROLES[index % len(SERIES_ROLES)]) for index, pool in enumerate(shown)]


def draw_all(plan: Plan, forecast: Forecast) -> str:
    """Draw all pools and all demand."""
    wanted = _demand(forecast.quantiles)
    with style():
        figure, axes = new_axes(11, 3.7)
        _draw(axes, plan, layers(plan), wanted)
        gpus_over_time(axes, ticks=10)
        return to_svg(figure, "plan", "Planned GPUs by pool and the demand forecast", _describe(plan, wanted))


def draw_by_accelerator(plan: Plan, forecast: Forecast) -> list[tuple[str, str]]:
    """Draw each accelerator's pools beside its own demand: its name and its SVG."""
    asked = set(forecast.quantiles["accelerator"]) - {_ANY}
    names = sorted({layer.pool.accelerator for layer in layers(plan)} | asked)
    return [(name, _draw_accelerator(name, plan, forecast, f"plan{index}")) for index, name in enumerate(names)]


def _draw_accelerator(accelerator: str, plan: Plan, forecast: Forecast, name: str) -> str:
    """Draw one accelerator."""
    wanted = _demand(forecast.quantiles.filter(pl.col("accelerator") == accelerator))
    mine = [layer for layer in layers(plan) if layer.pool.accelerator == accelerator]
    with style():
        figure, axes = new_axes(3.7, 1.9)
        _draw(axes, plan, mine, wanted)
        gpus_over_time(axes, ticks=6)
        return to_svg(figure, name, f"Planned GPUs and demand of {accelerator}", _describe(plan, wanted, accelerator))


def _draw(axes: Axes, plan: Plan, stack: list[Layer], wanted: pl.DataFrame) -> None:
    """Draw nodes as steps, demand as lines over them."""
    edges, heights = _steps(plan, stack)
    base = np.zeros(len(edges))
    for layer, height in zip(stack, heights, strict=True):
        axes.fill_between(
            edges,
            base,
            base + height,
            step="post",
            facecolor=LIGHT[layer.role],
            edgecolor=LIGHT["surface"],
            hatch="////" if layer.hatched else None,
            alpha=OPACITY,
            linewidth=0.4,
        )
        base = base + height
    hours = times(wanted["hour"].to_list())
    axes.fill_between(hours, wanted["q0.1"], wanted["q0.9"], color=LIGHT["ink"], alpha=0.15, linewidth=0)
    for column, width, dashes in (("q0.5", 1.5, "-"), ("q0.95", 1.1, (0, (4, 2)))):
        gpus = wanted[column].to_numpy()
        axes.plot(hours, gpus, color=LIGHT["surface"], linewidth=width + 1.8, alpha=0.7)  # a halo over the areas
        axes.plot(hours, gpus, color=LIGHT["ink"], linewidth=width, linestyle=dashes)


def _steps(plan: Plan, stack: list[Layer]) -> tuple[list[float], list[np.ndarray[tuple[int], np.dtype[np.float64]]]]:
    """GPUs of each layer at each hour, and once more at the end of the last."""
    hours = sorted(set(plan.nodes["hour"]))
    grid = pl.DataFrame({"hour": hours}, schema={"hour": plan.nodes.schema["hour"]})
    heights: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    for layer in stack:
        mine = plan.nodes.filter(pl.col("pool") == layer.pool.name)
        nodes = grid.join(mine, on="hour", how="left", maintain_order="left")["nodes"].fill_null(0).to_numpy()
        heights.append(np.append(nodes, nodes[-1]).astype(float) * layer.pool.gpus_per_node)
    return times([*hours, hours[-1] + timedelta(hours=1)] if hours else []), heights


def _demand(quantiles: pl.DataFrame) -> pl.DataFrame:
    """The fan of the series together, by hour (sums, as `demand.total_forecast`)."""
    return (
        quantiles.group_by("hour", maintain_order=True).agg(pl.col("q0.1", "q0.5", "q0.9", "q0.95").sum()).sort("hour")
    )


def planned_gpus(plan: Plan, accelerator: str | None = None) -> pl.DataFrame:
    """GPUs planned by hour."""
    sizes = {pool.name: pool.gpus_per_node for pool in plan.fleet.pools if accelerator in (None, pool.accelerator)}
    mine = plan.nodes.filter(pl.col("pool").is_in(list(sizes)))
    gpus = pl.col("nodes") * pl.col("pool").replace_strict(sizes, default=0, return_dtype=pl.Int64)
    return mine.group_by("hour", maintain_order=True).agg(gpus.sum().alias("gpus")).sort("hour")


def _describe(plan: Plan, wanted: pl.DataFrame, accelerator: str | None = None) -> str:
    """Say in words what the picture shows."""
    planned = planned_gpus(plan, accelerator)
    said = "No GPUs are planned."
    if not planned.is_empty():
        least, most = planned.select(pl.col("gpus").min().alias("least"), pl.col("gpus").max().alias("most")).row(0)
        said = f"Planned: {number(least)} to {number(most)} GPUs."
    if wanted.is_empty():
        return f"{said} No demand is forecast."
    peak = wanted.sort("q0.95", descending=True).row(0, named=True)
    return f"{said} Highest 0.95 demand: {number(peak['q0.95'])} GPUs at {moment(peak['hour'])} UTC."
