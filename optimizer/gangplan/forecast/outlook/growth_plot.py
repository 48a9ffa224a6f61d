# pyright: reportUnknownMemberType=false
"""A picture of growth: the last months of each group and its fan ahead, with what is meant."""

from __future__ import annotations

import io
from datetime import timedelta

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from gangplan.forecast.outlook.growth import Trend
from gangplan.types import QUANTILES

MOST = 7
PAST_DAYS = 120
_BLUE, _BLACK, _GREEN = "#2b6cb0", "#2d3748", "#2f855a"


def draw(trends: tuple[Trend, ...]) -> bytes:
    """Draw the total and the largest groups below one another, as a PNG."""
    shown = trends[:MOST]
    figure = Figure(figsize=(9, 0.5 + 1.9 * len(shown)), layout="constrained")
    for place, trend in enumerate(shown):
        _fan(figure.add_subplot(len(shown), 1, place + 1), trend)
    figure.axes[0].legend(loc="upper left", fontsize=8, ncols=5, frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _fan(axes: Axes, trend: Trend) -> None:
    """Draw one group."""
    past = trend.past[-PAST_DAYS:]
    days = [trend.today - timedelta(days=past.size - 1 - place) for place in range(past.size)]
    ahead = [trend.today + timedelta(days=1 + place) for place in range(trend.paths.shape[1])]
    named = dict(zip(QUANTILES, trend.quantiles.T, strict=True))
    axes.plot(np.array(days, dtype="datetime64[D]"), past, color=_BLACK, linewidth=0.9, label="mean of the day")
    to_come = np.array(ahead, dtype="datetime64[D]")
    axes.fill_between(to_come, named[0.1], named[0.9], color=_BLUE, alpha=0.25, linewidth=0, label="8 of 10 cases")
    axes.plot(to_come, named[0.95], color=_BLUE, linewidth=0.7, linestyle=":", label="95 %")
    axes.plot(to_come, named[0.5], color=_BLUE, linewidth=1.2, label="median")
    if trend.meant is not None:
        axes.plot(to_come, trend.meant, color=_GREEN, linewidth=1.2, linestyle="--", label="as meant")
    low, middle, high = trend.per_month
    name = "all together" if trend.name == "all" else trend.name
    axes.set_title(f"{name}: {middle:+.1%} a month ({low:+.1%} to {high:+.1%})", fontsize=9, loc="left")
    axes.set_ylabel("GPUs", fontsize=8)
    axes.set_ylim(0, 1.05 * max(float(past.max()), float(named[0.95].max())))
    axes.tick_params(labelsize=8)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
