# pyright: reportUnknownMemberType=false
"""Pictures of a training for the reviewer: the fan of the last origin, calibration, what the trees look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gangplan.forecast.arrays import Floats
from gangplan.forecast.backtest import steps
from gangplan.forecast.model import DemandModel
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES

BUCKETS = ((1, 24), (25, 72), (73, 168))
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#718096"


def draw(folder: Path, backtest: pl.DataFrame, model: DemandModel) -> list[Path]:
    """Draw fan.png, calibration.png and importance.png; return their paths."""
    figures = {"fan": fan(backtest), "calibration": calibration(backtest), "importance": importance(model)}
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
    gains = np.stack([np.asarray(tree.feature_importance("gain"), dtype=np.float64) for tree in model.trees])
    total = np.asarray(gains.sum(axis=0), dtype=np.float64)
    names = [str(name) for name in model.trees[0].feature_name()]
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
