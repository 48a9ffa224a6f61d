"""Matplotlib with types: figures with axes over time, and as inline SVG in the colours of the page.

Matplotlib's own types are partial, so axes and figures count as untyped here. In the SVG, text stays text, and ids
begin with the drawing's name, so that several drawings fit into one page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gangplan.pages.colours import LIGHT, as_variables

Axes = Any
Figure = Any
Dashes = str | tuple[int, tuple[int, ...]]
Values = NDArray[np.float64] | Sequence[float]
mpl: Any = matplotlib

_DAYS = timedelta(days=3)

OPACITY = 0.85
"""The opacity of layers in a stack."""

_STYLE = {
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
    "axes.titlelocation": "left",
    "axes.titlesize": 9.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
}
# Year, month, day, hour, minute, second; and the first tick of each.
_TICKS = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_TICKS = ["%Y", "%b %Y", "%d %b", "%d %b", "%H:%M", "%H:%M"]
_FONT = re.compile(r"font: ((?:[\w-]+ )*?)([\d.]+px) [^;\"]*")
_ID = re.compile(r"(\bid=\"|url\(#|href=\"#)")


@contextmanager
def style() -> Generator[None]:
    """Draw in the page's style; matplotlib's own settings return afterwards."""
    with mpl.rc_context(_STYLE):
        yield


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of that size in inches and its axes."""
    figure, (axes,) = new_panels(1, width, height)
    return figure, axes


def new_panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of that size in inches, and so many axes below one another."""
    figure = MatplotlibFigure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(count, 1, place + 1) for place in range(count)]


def band(axes: Axes, x: Any, low: Any, high: Any, colour: str, opacity: float, **look: Any) -> None:
    """Fill the range between two curves."""
    axes.fill_between(x, low, high, color=LIGHT[colour], alpha=opacity, linewidth=0, **look)


def line(axes: Axes, x: Values, y: Values, width: float, dashes: Dashes, *, step: bool = False) -> None:
    """Draw a curve with a halo, so that it stands out over filled areas; `step` keeps each value until the next."""
    shape = {"drawstyle": "steps-post" if step else "default"}
    axes.plot(x, y, color=LIGHT["surface"], linewidth=width + 1.8, alpha=0.7, **shape)
    axes.plot(x, y, color=LIGHT["ink"], linewidth=width, linestyle=dashes, **shape)


def steps(axes: Axes, edges: Values, base: Values, top: Values, role: str, **look: Any) -> None:
    """Fill a layer of a stack between two step functions."""
    colours = {"facecolor": LIGHT[role], "edgecolor": LIGHT["surface"], "alpha": OPACITY}
    axes.fill_between(edges, base, top, step="post", **colours, **look)


def times(values: Iterable[datetime]) -> list[float]:
    """Return times as matplotlib counts them: days since 1970."""
    return [value.timestamp() / 86400 for value in values]


class _Ticks(AutoDateLocator):
    """Ticks at even distances over days, where days of the month would be uneven, and at round hours below."""

    def get_locator(self, dmin: datetime, dmax: datetime) -> Any:
        """Choose by the span."""
        self.interval_multiples = dmax - dmin < _DAYS
        return super().get_locator(dmin, dmax)  # pyright: ignore[reportUnknownMemberType]


def time_axis(axes: Axes, ticks: int) -> None:
    """Make the horizontal axis time in UTC: days with their month, hours with the date at midnight."""
    locator = _Ticks(tz=UTC, minticks=3, maxticks=ticks)
    axes.xaxis_date(tz=UTC)
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


def to_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """Return the figure as an `<svg>` element for an HTML page, with its title and description for screen readers."""
    with mpl.rc_context({"svg.hashsalt": name}):
        document = to_svg_file(figure, transparent=True)
    return Markup(inline(document, name, title, description))  # noqa: S704  matplotlib and `inline` escape all text


def to_svg_file(figure: Figure, *, transparent: bool = False) -> str:
    """Return the figure as an SVG document of its own, with its colours in it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # pyright: ignore[reportUnknownMemberType]
    return buffer.getvalue()


def inline(document: str, name: str, title: str, description: str) -> str:
    """Turn an SVG document into an element that can stand beside others in one page."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    size = re.search(r"viewBox=\"[^\"]*\"", body)
    inside = body[body.index(">") + 1 :]
    inside = _ID.sub(lambda match: f"{match[1]}{name}-", inside)
    inside = _FONT.sub(r"font: \1\2 var(--font)", as_variables(inside))
    labels = f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{html.escape(description)}</desc>'
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size[0] if size else ""} role="img"'
    return f'{head} aria-labelledby="{name}-t {name}-d">{labels}{inside.rstrip()}'
