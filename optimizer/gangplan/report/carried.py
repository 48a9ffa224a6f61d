"""How the plan was carried out: what was planned, ordered, usable and granted, hour by hour, in one picture."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from gangplan import pages
from gangplan.types import Fleet

GRANTED = pages.SERIES_ROLES[0]
"""The role of the colour of what is granted."""

_COUNTS = ("planned", "ordered", "usable", "granted")


def draw(carried: pl.DataFrame, fleet: Fleet) -> str:
    """Draw all pools' GPUs (tables.CARRIED): planned and granted as areas, ordered and usable as lines."""
    looked = in_gpus(carried, fleet)
    gpus = _every_hour(looked)
    edges = pages.times(edge for hour in gpus["hour"] for edge in (hour, hour + timedelta(hours=1)))
    values = {name: gpus[name].to_numpy().repeat(2) for name in _COUNTS}
    base = np.zeros(len(edges))
    with pages.style():
        figure, axes = pages.new_axes(11, 2.8)
        pages.band(axes, edges, base, values["planned"], "ink", 0.15)
        pages.steps(axes, edges, base, values["granted"], GRANTED, linewidth=0.4)
        pages.line(axes, edges, values["usable"], 1.5, "-")
        pages.line(axes, edges, values["ordered"], 1.1, (0, (4, 2)))
        pages.gpus_over_time(axes)
        return pages.to_svg(figure, "carried", "GPUs planned, ordered, usable and granted", _describe(looked))


def in_gpus(carried: pl.DataFrame, fleet: Fleet) -> pl.DataFrame:
    """Return the GPUs of all pools by hour; pools that the fleet does not have any more are left out."""
    sizes = {pool.name: pool.gpus_per_node for pool in fleet.pools}
    size = pl.col("pool").replace_strict(sizes, default=0, return_dtype=pl.Float64)
    return carried.group_by("hour").agg((pl.col(name) * size).sum() for name in _COUNTS).sort("hour")


def _every_hour(gpus: pl.DataFrame) -> pl.DataFrame:
    """Return the hours in which nobody looked, too, without values."""
    return gpus.upsample("hour", every="1h")


def _describe(gpus: pl.DataFrame) -> str:
    last = gpus.row(-1, named=True)
    counts = ", ".join(f"{pages.number(last[name])} {name}" for name in _COUNTS)
    late = gpus.filter(pl.col("usable") < pl.col("planned")).height
    return f"At {pages.moment(last['hour'])} UTC: {counts}. Fewer usable than planned in {late} of {gpus.height} hours."
