"""Nodes that run for a term, stacked under the fan of demand, month by month: as a page, an SVG or a PNG."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path

import numpy as np
import polars as pl

from gangplan import pages
from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.types import Commitments

_KINDS = ("owned", "committed")  # the firmest at the bottom
_SUMS = ("q0.1", "q0.5", "q0.9", "peak0.5", "peak0.9")


def write(path: Path, plan: Commitments) -> Path:
    """Write the picture where its name says: .html a page with tables, .svg or .png the picture alone."""
    if path.suffix not in (".html", ".svg", ".png"):
        raise InputError("plot", path, "must end in .html, .svg or .png")
    try:
        with pages.style():
            if path.suffix == ".png":
                path.write_bytes(_png(plan))
            else:
                write_atomic(path, _page(plan) if path.suffix == ".html" else pages.to_svg_file(draw(plan)))
    except OSError as error:
        raise InputError("plot", path, f"cannot be written ({error.strerror}): name a file elsewhere") from None
    return path


def pools(plan: Commitments) -> list[tuple[str, str]]:
    """Return the pools that run for a term, owned ones first, each with the role of its colour."""
    kinds: dict[str, str] = dict(plan.standing.select("pool", "kind").iter_rows())
    names = sorted(kinds, key=lambda name: (_KINDS.index(kinds[name]), name))
    return [(name, pages.SERIES_ROLES[place % len(pages.SERIES_ROLES)]) for place, name in enumerate(names)]


def draw(plan: Commitments) -> pages.Figure:
    """Draw all demand over all that runs for a term."""
    drawing, axes = pages.new_axes(11, 3.9)
    _stack(axes, plan)
    _fan(axes, plan)
    pages.gpus_over_time(axes, ticks=14)
    return drawing


def _edges(plan: Commitments) -> list[date]:
    """Return the first day of each month, and the day after the last."""
    return [*plan.demand["month"].unique().sort().to_list(), plan.end]


def _stack(axes: pages.Axes, plan: Commitments) -> None:
    """Draw what runs for a term as a stack of steps."""
    edges = _edges(plan)
    base = np.zeros(len(edges))
    for name, role in pools(plan):
        rows = dict(plan.standing.filter(pl.col("pool") == name).select("month", "gpus").iter_rows())
        height = np.array([rows.get(edge, 0) for edge in edges[:-1]], dtype=float)
        top = base + np.append(height, height[-1])
        pages.steps(axes, _times(edges), base, top, role, linewidth=0.6, label=name)
        base = top


def _fan(axes: pages.Axes, plan: Commitments) -> None:
    """Draw demand: each month's mean with its band, and its busiest hours."""
    edges = _edges(plan)
    sums = plan.demand.group_by("month").agg(pl.col(_SUMS).sum()).sort("month")
    values = {name: np.append(sums[name].to_numpy(), sums[name][-1]) for name in _SUMS}
    hours = _times(edges)
    pages.band(axes, hours, values["q0.1"], values["q0.9"], "fan", 0.28, step="post")
    for name, width, dashes in (("q0.5", 1.5, "-"), ("peak0.5", 1.2, (0, (4, 2))), ("peak0.9", 1.0, (0, (1, 2)))):
        pages.line(axes, hours, values[name], width, dashes, step=True)


def _times(days: list[date]) -> list[float]:
    return pages.times(datetime.combine(day, time(), UTC) for day in days)


def _png(plan: Commitments) -> bytes:
    """Return the picture as pixels, with a legend."""
    drawing = draw(plan)
    (axes,) = drawing.axes
    axes.legend(loc="upper left", ncols=4)
    axes.set_title("GPUs for a term; demand: mean (8 of 10 cases), busiest hours")
    return pages.to_png(drawing)


def _describe(plan: Commitments) -> str:
    standing = plan.standing.group_by("month").agg(pl.col("gpus").sum()).sort("month")["gpus"].to_list()
    median = plan.demand.group_by("month").agg(pl.col("q0.5").sum()).sort("month")["q0.5"].to_list()
    stands = "Nothing stands for a term."
    if standing:
        stands = f"From {_range(standing[0], standing[-1])} GPUs stand for a term."
    return f"{stands} Demand goes from {_range(median[0], median[-1])} GPUs in the middle."


def _page(plan: Commitments) -> str:
    template = pages.templates(Path(__file__).parent).get_template("purchases.html.j2")
    drawing = pages.to_svg(draw(plan), "commitments", "What stands for a term, and demand", _describe(plan))
    return template.render(
        light=pages.LIGHT,
        dark=pages.DARK,
        made=plan,
        drawing=drawing,
        pools=pools(plan),
        tables=(_purchases(plan), _strategies(plan), _benefits(plan), _full(plan)),
    )


def _purchases(plan: Commitments) -> pages.Table:
    return pages.table_of(
        "What to buy",
        plan.purchases,
        [
            (pages.text("Pool"), lambda row: row.pool),
            (pages.figure("Nodes"), lambda row: pages.number(row.nodes)),
            (pages.figure("Term", "months"), lambda row: pages.number(row.months)),
            (pages.figure("Order by"), lambda row: str(row.order_by)),
            (pages.figure("Stands from"), lambda row: str(row.begins)),
            (pages.figure("Up to"), lambda row: str(row.ends)),
            (pages.figure("Price", "per node-hour"), lambda row: pages.number(row.price_per_node_hour, 2)),
        ],
        empty="Buying nothing for a term is cheapest.",
    )


def _strategies(plan: Commitments) -> pages.Table:
    best = plan.ways[0]
    return pages.table_of(
        "Beside the other ways, on the same paths",
        plan.ways,
        [
            (pages.text("Bought"), lambda row: row.name),
            (pages.figure("Cost", "mean"), lambda row: pages.number(row.expected)),
            (pages.figure("Cost", "worst fifth"), lambda row: pages.number(row.worst)),
            (
                pages.figure("More than this plan", "mean"),
                lambda row: pages.NOTHING if row is best else pages.number(row.more),
            ),
            (
                pages.figure("", "8 of 10 cases"),
                lambda row: pages.NOTHING if row is best else _range(row.more_low, row.more_high),
            ),
            (pages.figure("For terms"), lambda row: pages.number(row.terms)),
            (pages.figure("Bound beyond", "share that counts"), lambda row: pages.number(row.bound)),
            (pages.figure("By the hour"), lambda row: pages.number(row.taken)),
            (pages.figure("Short", "GPU-hours"), lambda row: pages.number(row.short_gpu_hours)),
        ],
    )


def _range(low: float, high: float) -> str:
    return f"{pages.number(low)} to {pages.number(high)}"


def _benefits(plan: Commitments) -> pages.Table:
    return pages.table_of(
        "What buying earns, against solving again without it",
        plan.earnings,
        [
            (pages.text("Pool"), lambda row: row.pool),
            (pages.text("Term"), lambda row: f"{row.months} months" if row.months else "any"),
            (pages.figure("Nodes"), lambda row: pages.number(row.nodes)),
            (pages.figure("Earns", "mean"), lambda row: pages.number(row.earns)),
            (pages.figure("", "8 of 10 cases"), lambda row: _range(row.low, row.high)),
            (pages.figure("Earns", "worst fifth"), lambda row: pages.number(row.worst)),
            (pages.figure("Loses", "share of paths"), lambda row: pages.share(row.loses)),
        ],
        empty="Nothing is bought.",
    )


def _full(plan: Commitments) -> pages.Table:
    return pages.table_of(
        "When a pool runs all nodes that it may have, in some hours of a usual week",
        plan.full,
        [
            (pages.text("Pool"), lambda row: row.pool),
            (pages.figure("Early", "1 of 10 cases"), lambda row: _month(row.early)),
            (pages.figure("Middle"), lambda row: _month(row.middle)),
            (pages.figure("Late", "9 of 10 cases"), lambda row: _month(row.late)),
        ],
        empty="No pool may serve what is asked for.",
    )


def _month(day: date | None) -> str:
    """Format a month; None lies beyond the horizon."""
    return "beyond" if day is None else f"{day:%b %Y}"
