# pyright: reportUnknownMemberType=false
"""Matplotlib's figures as inline SVG: text stays text, ids are the drawing's own, colours follow the page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gangplan.pages.colours import LIGHT, as_variables

_DAYS = timedelta(days=3)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text can be read aloud, searched and copied
    "text.parse_math": False,  # a "$" in a tenant's name is a dollar
    "font.size": 9.0,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "hatch.linewidth": 0.8,
}
# Year, month, day, hour, minute, second; and the first tick of each.
_TICKS = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_TICKS = ["%Y", "%b %Y", "%d %b", "%d %b", "%H:%M", "%H:%M"]
_FONT = re.compile(r"font: ((?:[\w-]+ )*?)([\d.]+px) [^;\"]*")
_ID = re.compile(r"(\bid=\"|url\(#|href=\"#)")


@contextmanager
def style() -> Generator[None]:
    """Draw in the page's style; matplotlib's own settings are back afterwards."""
    with mpl.rc_context(_STYLE):
        yield


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of that size in inches and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def times(values: Iterable[datetime]) -> list[float]:
    """Return UTC times as matplotlib counts them, in days."""
    return [value.timestamp() / 86400 for value in values]  # its epoch is that of Unix


class _Ticks(AutoDateLocator):
    """Even distances over days, where multiples of the day of the month would meet at its end; round hours below."""

    def get_locator(self, dmin: datetime, dmax: datetime) -> Any:
        """Choose for this span."""
        self.interval_multiples = dmax - dmin < _DAYS
        return super().get_locator(dmin, dmax)


def time_axis(axes: Axes, ticks: int) -> None:
    """Let the horizontal axis be time in UTC: days with their month, hours with the date at midnight."""
    locator = _Ticks(tz=UTC, minticks=3, maxticks=ticks)
    axes.xaxis_date(tz=UTC)  # pyright: ignore[reportArgumentType]  any tzinfo will do
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC, formats=_TICKS, zero_formats=_FIRST_TICKS, show_offset=False)
    axes.xaxis.set_major_formatter(formatter)


def gpus_over_time(axes: Axes, *, ticks: int = 10, label: str = "GPUs") -> None:
    """Set up a time axis and a count axis from zero."""
    time_axis(axes, ticks)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(label)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the figure as an `<svg>` element for an HTML page, with its title and description for screen readers."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return inline(buffer.getvalue(), name, title, description)


def inline(document: str, name: str, title: str, description: str) -> str:
    """Turn an SVG document into an element that can stand beside others in one page."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    size = re.search(r"viewBox=\"[^\"]*\"", body)
    inside = body[body.index(">") + 1 :]
    inside = _ID.sub(lambda found: f"{found[1]}{name}-", inside)
    inside = _FONT.sub(r"font: \1\2 var(--font)", as_variables(inside))
    labels = f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{html.escape(description)}</desc>'
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size[0] if size else ""} role="img"'
    return f'{head} aria-labelledby="{name}-t {name}-d">{labels}{inside.rstrip()}'
