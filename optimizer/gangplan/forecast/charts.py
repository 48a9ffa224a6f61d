"""Parts of a chart in one style; matplotlib's partly unknown types end here."""

from __future__ import annotations

import io
from typing import Any, Literal, TypeAlias

import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, RED, GREY, BLACK, GREEN = "#2b6cb0", "#c53030", "#718096", "#2d3748", "#2f855a"

Values: TypeAlias = NDArray[Any] | pl.Series | list[float] | tuple[float, ...]


def panels(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Make a figure (inches) with so many axes below one another."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(count, 1, place + 1) for place in range(count)]


def line(axes: Axes, x: Values, y: Values, color: str | None, width: float = 1.2, **style: str) -> None:
    """Draw a line; `style` takes matplotlib's `label`, `linestyle` and `marker`."""
    options: dict[str, Any] = {"color": color, "linewidth": width, **style}
    axes.plot(x, y, **options)  # pyright: ignore[reportUnknownMemberType]


def band(axes: Axes, x: Values, low: Values, high: Values, label: str, alpha: float = 0.25) -> None:
    """Fill the band between two lines."""
    axes.fill_between(x, low, high, color=BLUE, alpha=alpha, linewidth=0, label=label)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]


def label(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Name the axes and the chart, in small letters."""
    axes.set_xlabel(x, fontsize=8)  # pyright: ignore[reportUnknownMemberType]
    axes.set_ylabel(y, fontsize=8)  # pyright: ignore[reportUnknownMemberType]
    axes.set_title(title, fontsize=9, loc="left")  # pyright: ignore[reportUnknownMemberType]
    axes.tick_params(labelsize=8)  # pyright: ignore[reportUnknownMemberType]


def legend(axes: Axes, columns: int = 1, place: Literal["best", "upper left"] = "best") -> None:
    """Add a legend without a frame."""
    axes.legend(loc=place, fontsize=8, ncols=columns, frameon=False)  # pyright: ignore[reportUnknownMemberType]


def dates(axes: Axes) -> None:
    """Write the x axis in dates, as short as they can be told apart."""
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # pyright: ignore[reportUnknownArgumentType]


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # pyright: ignore[reportUnknownMemberType]
    return buffer.getvalue()
