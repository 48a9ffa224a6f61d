# pyright: reportUnknownMemberType=false
"""What stands for a term, stacked under the fan of demand, month by month: as a page, an SVG or a PNG."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.pages import (
    DARK,
    LIGHT,
    NOTHING,
    SERIES_ROLES,
    Table,
    figure,
    gpus_over_time,
    number,
    share,
    style,
    templates,
    text,
    times,
    to_svg,
)
from gangplan.types import Commitments

_KINDS = ("owned", "committed")  # the firmest at the bottom
_SUMS = ("q0.1", "q0.5", "q0.9", "peak0.5", "peak0.9")


def write(path: Path, made: Commitments) -> Path:
    """Write the picture where its name says: .html a page with tables, .svg or .png the picture alone.

    Raises
    ------
    InputError
        The name ends in none of these, or the file cannot be written.
    """
    if path.suffix not in (".html", ".svg", ".png"):
        raise InputError("plot", path, "must end in .html, .svg or .png")
    try:
        if path.suffix == ".png":
            path.write_bytes(_png(made))
        else:
            write_atomic(path, _page(made) if path.suffix == ".html" else _document(made))
    except OSError as error:
        raise InputError("plot", path, f"cannot be written ({error.strerror}): name a file elsewhere") from None
    return path


def pools(made: Commitments) -> list[tuple[str, str]]:
    """The pools that stand, the firmest first, each with its colour's role."""
    kinds: dict[str, str] = dict(made.standing.select("pool", "kind").iter_rows())
    names = sorted(kinds, key=lambda name: (_KINDS.index(kinds[name]), name))
    return [(name, SERIES_ROLES[place % len(SERIES_ROLES)]) for place, name in enumerate(names)]


def accelerators(made: Commitments) -> list[str]:
    """The accelerators that are asked for, the largest first."""
    sizes = made.demand.group_by("accelerator").agg(pl.col("q0.5").sum()).sort("q0.5", "accelerator", descending=True)
    return sizes["accelerator"].to_list()


def draw(made: Commitments) -> Figure:
    """Draw all demand over all that stands."""
    drawn = Figure(figsize=(11, 3.9), layout="constrained")
    axes = drawn.add_subplot()
    _stack(axes, made)
    _fan(axes, made)
    gpus_over_time(axes, ticks=14)
    return drawn


def _edges(made: Commitments) -> list[date]:
    """The first days of the months, and the day after the last."""
    return [*made.demand["month"].unique().sort().to_list(), made.end]


def _stack(axes: Axes, made: Commitments) -> None:
    """Draw what stands as steps."""
    edges = _edges(made)
    base = np.zeros(len(edges))
    for name, role in pools(made):
        rows = dict(made.standing.filter(pl.col("pool") == name).select("month", "gpus").iter_rows())
        height = np.array([rows.get(edge, 0) for edge in edges[:-1]], dtype=float)
        top = base + np.append(height, height[-1])
        axes.fill_between(
            _times(edges), base, top, step="post", facecolor=LIGHT[role], edgecolor=LIGHT["surface"], alpha=0.85,
            linewidth=0.6, label=name,
        )  # fmt: skip
        base = top


def _fan(axes: Axes, made: Commitments) -> None:
    """Draw demand over it: the month's mean with its band, and its busiest hours."""
    edges = _edges(made)
    sums = made.demand.group_by("month").agg(pl.col(_SUMS).sum()).sort("month")
    values = {name: np.append(sums[name].to_numpy(), sums[name][-1]) for name in _SUMS}
    at, ink = _times(edges), LIGHT["ink"]
    axes.fill_between(at, values["q0.1"], values["q0.9"], step="post", color=LIGHT["fan"], alpha=0.28, linewidth=0)
    for name, width, dashes in (("q0.5", 1.5, "-"), ("peak0.5", 1.2, (0, (4, 2))), ("peak0.9", 1.0, (0, (1, 2)))):
        axes.step(at, values[name], where="post", color=LIGHT["surface"], linewidth=width + 1.8, alpha=0.7)
        axes.step(at, values[name], where="post", color=ink, linewidth=width, linestyle=dashes)


def _times(days: list[date]) -> list[float]:
    """Days as the axis counts them."""
    return times(datetime.combine(day, time(), UTC) for day in days)


def _svg(made: Commitments) -> str:
    """The picture as an element of a page."""
    with style():
        return to_svg(draw(made), "commitments", "What stands for a term, and demand", _describe(made))


def _document(made: Commitments) -> str:
    """The picture as a file of its own: it carries its colours."""
    with style():
        buffer = io.StringIO()
        draw(made).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _png(made: Commitments) -> bytes:
    """The picture as pixels, with its legend."""
    buffer = io.BytesIO()
    with style():
        drawn = draw(made)
        drawn.axes[0].legend(loc="upper left", fontsize=8, ncols=4, frameon=False)
        drawn.axes[0].set_title("GPUs for a term; demand: mean (8 of 10 cases), busiest hours", fontsize=9, loc="left")
        FigureCanvasAgg(drawn).print_png(buffer)
    return buffer.getvalue()


def _describe(made: Commitments) -> str:
    """Say in words what the picture shows."""
    standing = made.standing.group_by("month").agg(pl.col("gpus").sum()).sort("month")
    stands = "Nothing stands for a term." if standing.is_empty() else (
        f"From {number(standing['gpus'][0])} to {number(standing['gpus'][-1])} GPUs stand for a term."
    )  # fmt: skip
    sums = made.demand.group_by("month").agg(pl.col(_SUMS).sum()).sort("month")
    return f"{stands} Demand goes from {number(sums['q0.5'][0])} to {number(sums['q0.5'][-1])} GPUs in the middle."


def _page(made: Commitments) -> str:
    """The page: picture, words, tables."""
    template = templates(Path(__file__).parent).get_template("purchases.html.j2")
    return template.render(
        light=LIGHT,
        dark=DARK,
        made=made,
        drawing=Markup(_svg(made)),  # noqa: S704 - our own drawing; its text is escaped where it is made
        pools=pools(made),
        tables=(_purchases(made), _ways(made), _earnings(made), _full(made)),
    )


def _purchases(made: Commitments) -> Table:
    """What to buy."""
    return Table(
        caption="What to buy",
        columns=(
            text("Pool"), figure("Nodes"), figure("Term", "months"), figure("Order by"), figure("Stands from"),
            figure("Up to"), figure("Price", "per node-hour"),
        ),
        rows=tuple(
            (
                one.pool, number(one.nodes), number(one.months), str(one.order_by), str(one.begins), str(one.ends),
                number(one.price_per_node_hour, 2),
            )
            for one in made.purchases
        ),
        empty="Buying nothing for a term is cheapest.",
    )  # fmt: skip


def _ways(made: Commitments) -> Table:
    """What other ways cost."""
    return Table(
        caption="Beside the other ways, on the same paths",
        columns=(
            text("Bought"), figure("Cost", "mean"), figure("Cost", "worst fifth"),
            figure("More than this plan", "mean"), figure("", "8 of 10 cases"), figure("For terms"),
            figure("Bound beyond", "share that counts"), figure("By the hour"), figure("Short", "GPU-hours"),
        ),
        rows=tuple(
            (
                one.name, number(one.expected), number(one.worst),
                number(one.more) if place else NOTHING,
                f"{number(one.more_low)} to {number(one.more_high)}" if place else NOTHING,
                number(one.terms), number(one.bound), number(one.taken), number(one.short_gpu_hours),
            )
            for place, one in enumerate(made.ways)
        ),
        empty="",
    )  # fmt: skip


def _earnings(made: Commitments) -> Table:
    """What each purchase earns."""
    return Table(
        caption="What buying earns, against solving again without it",
        columns=(
            text("Pool"), text("Term"), figure("Nodes"), figure("Earns", "mean"), figure("", "8 of 10 cases"),
            figure("Earns", "worst fifth"), figure("Loses", "share of paths"),
        ),
        rows=tuple(
            (
                one.pool, f"{one.months} months" if one.months else "any", number(one.nodes), number(one.earns),
                f"{number(one.low)} to {number(one.high)}", number(one.worst), share(one.loses),
            )
            for one in made.earnings
        ),
        empty="Nothing is bought.",
    )  # fmt: skip


def _full(made: Commitments) -> Table:
    """When pools are full."""
    return Table(
        caption="When a pool runs all nodes that it may have, in some hours of a usual week",
        columns=(text("Pool"), figure("Early", "1 of 10 cases"), figure("Middle"), figure("Late", "9 of 10 cases")),
        rows=tuple((one.pool, _day(one.early), _day(one.middle), _day(one.late)) for one in made.full),
        empty="No pool may serve what is asked for.",
    )


def _day(day: date | None) -> str:
    """A month, or that it lies beyond."""
    return "beyond" if day is None else f"{day:%b %Y}"


__all__: list[Any] = ["accelerators", "draw", "pools", "write"]
