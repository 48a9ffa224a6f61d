# pyright: reportUnknownMemberType=false
"""Pictures of a training for the reviewer: the last origin's fan, calibration, errors by hour, what trees look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gangplan.forecast.evaluation.backtest import steps
from gangplan.forecast.models import DemandModel
from gangplan.forecast.series import Floats
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES

PICTURES = {
    "fan": "The last starting day: what was forecast, and what came, for the four largest series.",
    "calibration": "Promised and kept: how often demand stayed at or below each level. On the line is right.",
    "residuals": "Errors of the middle forecast by hour of the day. Above 0: too little was forecast.",
    "importance": "What the trees look at, by the loss that it took away.",
}
"""The pictures of a training, with their captions."""

BUCKETS = ((1, 24), (25, 72), (73, 168))
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#718096"


def draw(folder: Path, backtest: pl.DataFrame, model: DemandModel) -> list[Path]:
    """Draw a PNG for each of `PICTURES`; return their paths."""
    figures = {
        "fan": fan(backtest),
        "calibration": calibration(backtest),
        "residuals": residuals(backtest),
        "importance": importance(model),
    }
    paths: list[Path] = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        FigureCanvasAgg(figure).print_png(str(paths[-1]))
    return paths


def fan(backtest: pl.DataFrame) -> Figure:
    """The last origin's fan beside what came, for the four largest series."""
    last = backtest.filter(pl.col("origin") == pl.col("origin").max())
    order = (
        last.group_by(SERIES).agg(pl.col("q0.5").mean()).sort(["q0.5", *SERIES], descending=[True, False, False, False])
    )
    keys = list(order.select(SERIES).head(4).iter_rows())
    figure = Figure(figsize=(10, 2.4 * len(keys)), layout="constrained")
    for place, key in enumerate(keys):
        axes = figure.add_subplot(len(keys), 1, place + 1)
        same = (pl.col(name) == value for name, value in zip(SERIES, key, strict=True))
        _fan_of(axes, last.filter(*same))
        axes.set_title(" / ".join(key), fontsize=9, loc="left")
    figure.axes[-1].set_xlabel("hour, UTC", fontsize=8)
    figure.axes[0].legend(fontsize=8, ncols=4, frameon=False)
    return figure


def calibration(backtest: pl.DataFrame) -> Figure:
    """How often demand stayed at or below each level, against the level promised, by how far ahead."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, label="as promised")
    known = backtest.with_columns(step=steps(backtest)).drop_nulls("gpus")
    for low, high in BUCKETS:
        rows = known.filter(pl.col("step").is_between(low, high))
        if rows.height:
            shares = [(rows["gpus"] <= rows[column]).mean() for column in QUANTILE_COLUMNS]
            axes.plot(QUANTILES, np.array(shares, dtype=np.float64), marker="o", label=f"{low} to {high} h ahead")
    axes.set(xlabel="level promised", ylabel="share at or below", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(fontsize=8, frameon=False)
    return figure


def residuals(backtest: pl.DataFrame) -> Figure:
    """What came less the median, by hour of the day, in per cent of each series' mean: middle, half, four in five."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    mean = pl.col("gpus").mean().over(SERIES)
    known = (
        backtest.drop_nulls("gpus").with_columns(hour=pl.col("hour").dt.hour(), mean=mean).filter(pl.col("mean") > 0)
    )
    missed = known.with_columns(missed=100 * (pl.col("gpus") - pl.col("q0.5")) / pl.col("mean"))
    levels = {f"p{level}": pl.col("missed").quantile(level / 100) for level in (10, 25, 50, 75, 90)}
    rows = missed.group_by("hour").agg(**levels).sort("hour")
    for low, high, alpha, label in (("p10", "p90", 0.2, "four in five"), ("p25", "p75", 0.35, "half")):
        axes.fill_between(rows["hour"], rows[low], rows[high], color=_BLUE, alpha=alpha, linewidth=0, label=label)
    axes.plot(rows["hour"], rows["p50"], color=_BLUE, linewidth=1.4, label="middle")
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set(xlabel="hour of the day, UTC", ylabel="came less forecast, % of the series' mean", xlim=(0, 23))
    axes.legend(fontsize=8, frameon=False)
    return figure


def importance(model: DemandModel, most: int = 20) -> Figure:
    """The features by their share of the loss that the trees took away, over all levels."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    if not model.trees:
        axes.text(0.5, 0.5, "no series could be learned: naive forecasts only", ha="center", transform=axes.transAxes)
        return figure
    names, shares = _shares(model)
    order = np.argsort(shares)[-most:]
    axes.barh(np.array(names)[order], shares[order], color=_BLUE)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("share of gain, %")
    return figure


def _shares(model: DemandModel) -> tuple[list[str], Floats]:
    """The features and their shares of all gain, in per cent."""
    gains = np.stack([np.asarray(tree.booster.feature_importance("gain"), dtype=np.float64) for tree in model.trees])
    total = np.asarray(gains.sum(axis=0), dtype=np.float64)
    names = [str(name) for name in model.trees[0].booster.feature_name()]
    return names, 100 * total / max(float(total.sum()), 1e-12)


def _fan_of(axes: Axes, rows: pl.DataFrame) -> None:
    """Draw one series."""
    hours = rows["hour"].dt.replace_time_zone(None).to_numpy()
    axes.fill_between(hours, rows["q0.1"], rows["q0.9"], color=_BLUE, alpha=0.25, linewidth=0, label="10 to 90 %")
    axes.plot(hours, rows["q0.99"], color=_BLUE, linewidth=0.6, linestyle=":", label="99 %")
    axes.plot(hours, rows["q0.5"], color=_BLUE, linewidth=1.2, label="median")
    axes.plot(hours, rows["gpus"], color=_RED, linewidth=1.0, label="came")
    axes.set_ylabel("GPUs", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
