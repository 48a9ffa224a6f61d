"""Pictures of a training for the reviewer: the last origin's fan, calibration, errors by hour, what trees look at."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from gangplan.forecast import charts
from gangplan.forecast.charts import BLUE, GREY, RED
from gangplan.forecast.evaluation.backtest import steps_ahead
from gangplan.forecast.models import DemandModel
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
MOST_FEATURES = 20


def draw_pictures(backtest: pl.DataFrame, model: DemandModel) -> dict[str, bytes]:
    """Draw each of `PICTURES` as a PNG, by its name."""
    figures = (_fan(backtest), _calibration(backtest), _residuals(backtest), _importance(model))
    return {name: charts.png(figure) for name, figure in zip(PICTURES, figures, strict=True)}


def _fan(backtest: pl.DataFrame) -> Figure:
    """The last origin's forecast beside what came, for the four largest series."""
    last = backtest.filter(pl.col("origin") == pl.col("origin").max())
    means = last.group_by(SERIES).agg(pl.col("q0.5").mean())
    keys = means.sort(["q0.5", *SERIES], descending=[True, False, False, False]).select(SERIES).head(4).rows()
    figure, panels = charts.panels(len(keys), (10, 2.4 * len(keys)))
    for key, axes in zip(keys, panels, strict=True):
        rows = last.filter(*(pl.col(name) == value for name, value in zip(SERIES, key, strict=True)))
        hours = rows["hour"].dt.replace_time_zone(None).to_numpy()
        charts.band(axes, hours, rows["q0.1"], rows["q0.9"], "10 to 90 %")
        charts.line(axes, hours, rows["q0.99"], BLUE, 0.6, linestyle=":", label="99 %")
        charts.line(axes, hours, rows["q0.5"], BLUE, label="median")
        charts.line(axes, hours, rows["gpus"], RED, 1.0, label="came")
        charts.label(axes, x="hour, UTC" if axes is panels[-1] else "", y="GPUs", title=" / ".join(key))
        axes.set_ylim(bottom=0)
    charts.legend(panels[0], columns=4)
    return figure


def _calibration(backtest: pl.DataFrame) -> Figure:
    """How often demand stayed at or below each level, against the level promised, by how far ahead."""
    figure, (axes,) = charts.panels(1, (5, 5))
    charts.line(axes, [0, 1], [0, 1], GREY, 0.8, label="as promised")
    known = backtest.with_columns(step=steps_ahead(backtest)).drop_nulls("gpus")
    for low, high in BUCKETS:
        rows = known.filter(pl.col("step").is_between(low, high))
        if rows.height:
            shares = [(rows["gpus"] <= rows[column]).mean() for column in QUANTILE_COLUMNS]
            reached = np.array(shares, dtype=np.float64)
            charts.line(axes, QUANTILES, reached, None, 1.5, marker="o", label=f"{low} to {high} h ahead")
    charts.label(axes, x="level promised", y="share at or below")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    charts.legend(axes)
    return figure


def _residuals(backtest: pl.DataFrame) -> Figure:
    """What came less the median, by hour of the day, in per cent of each series' mean: middle, half, four in five."""
    figure, (axes,) = charts.panels(1, (6, 5))
    hour, mean = pl.col("hour").dt.hour(), pl.col("gpus").mean().over(SERIES)
    known = backtest.drop_nulls("gpus").with_columns(hour=hour, mean=mean).filter(pl.col("mean") > 0)
    missed = known.with_columns(missed=100 * (pl.col("gpus") - pl.col("q0.5")) / pl.col("mean"))
    levels = {f"p{level}": pl.col("missed").quantile(level / 100) for level in (10, 25, 50, 75, 90)}
    rows = missed.group_by("hour").agg(**levels).sort("hour")
    charts.band(axes, rows["hour"], rows["p10"], rows["p90"], "four in five", 0.2)
    charts.band(axes, rows["hour"], rows["p25"], rows["p75"], "half", 0.35)
    charts.line(axes, rows["hour"], rows["p50"], BLUE, 1.4, label="middle")
    charts.line(axes, [0, 23], [0, 0], GREY, 0.8)
    charts.label(axes, x="hour of the day, UTC", y="came less forecast, % of the series' mean")
    axes.set_xlim(0, 23)
    charts.legend(axes)
    return figure


def _importance(model: DemandModel) -> Figure:
    """The features by their share of the loss that the trees took away, over all levels."""
    figure, (axes,) = charts.panels(1, (6, 5))
    if not model.trees:
        charts.label(axes, title="no series could be learned: naive forecasts only")
        return figure
    gains = pl.DataFrame([tree.gains() for tree in model.trees]).sum()
    total = max(float(gains.sum_horizontal()[0]), 1e-12)
    shares = sorted((100 * gain / total, name) for name, gain in gains.row(0, named=True).items())[-MOST_FEATURES:]
    axes.barh([name for _, name in shares], [share for share, _ in shares], color=BLUE)  # pyright: ignore[reportUnknownMemberType]
    charts.label(axes, x="share of gain, %")
    return figure
