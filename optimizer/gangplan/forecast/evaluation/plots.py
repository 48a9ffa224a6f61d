"""Pictures of a training for the reviewer: the last origin's fan, calibration, errors by hour, what trees look at."""

from __future__ import annotations

import polars as pl

from gangplan import pages
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

BLUE, RED, GREY = (pages.LIGHT[role] for role in ("fan", "mark", "muted"))
BUCKETS = ((1, 24), (25, 72), (73, 168))
MOST_FEATURES = 20


def draw_pictures(backtest: pl.DataFrame, model: DemandModel) -> dict[str, bytes]:
    """Draw each of `PICTURES` as a PNG, by its name."""
    with pages.style():
        figures = (_fan(backtest), _calibration(backtest), _residuals(backtest), _importance(model))
        return {name: pages.to_png(figure) for name, figure in zip(PICTURES, figures, strict=True)}


def _fan(backtest: pl.DataFrame) -> pages.Figure:
    """The last origin's forecast beside what came, for the four largest series."""
    last = backtest.filter(pl.col("origin") == pl.col("origin").max())
    means = last.group_by(SERIES).agg(pl.col("q0.5").mean())
    keys = means.sort(["q0.5", *SERIES], descending=[True, False, False, False]).select(SERIES).head(4).rows()
    figure, panels = pages.new_panels(len(keys), 10, 2.4 * len(keys))
    for key, axes in zip(keys, panels, strict=True):
        rows = last.filter(*(pl.col(name) == value for name, value in zip(SERIES, key, strict=True)))
        hours = rows["hour"].dt.replace_time_zone(None).to_numpy()
        pages.band(axes, hours, rows["q0.1"], rows["q0.9"], "fan", 0.25, label="10 to 90 %")
        axes.plot(hours, rows["q0.99"], color=BLUE, linewidth=0.6, linestyle=":", label="99 %")
        axes.plot(hours, rows["q0.5"], color=BLUE, label="median")
        axes.plot(hours, rows["gpus"], color=RED, label="came")
        axes.set(xlabel="hour, UTC" if axes is panels[-1] else "", ylabel="GPUs", title=" / ".join(key))
        axes.set_ylim(bottom=0)
    panels[0].legend(ncols=4)
    return figure


def _calibration(backtest: pl.DataFrame) -> pages.Figure:
    """How often demand stayed at or below each level, against the level promised, by how far ahead."""
    figure, axes = pages.new_axes(5, 5)
    axes.plot([0, 1], [0, 1], color=GREY, label="as promised")
    known = backtest.with_columns(step=steps_ahead(backtest)).drop_nulls("gpus")
    for low, high in BUCKETS:
        rows = known.filter(pl.col("step").is_between(low, high))
        if rows.height:
            shares = [(rows["gpus"] <= rows[column]).mean() for column in QUANTILE_COLUMNS]
            axes.plot(QUANTILES, shares, marker="o", label=f"{low} to {high} h ahead")
    axes.set(xlabel="level promised", ylabel="share at or below", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend()
    return figure


def _residuals(backtest: pl.DataFrame) -> pages.Figure:
    """What came less the median, by hour of the day, in per cent of each series' mean: middle, half, four in five."""
    figure, axes = pages.new_axes(6, 5)
    hour, mean = pl.col("hour").dt.hour(), pl.col("gpus").mean().over(SERIES)
    known = backtest.drop_nulls("gpus").with_columns(hour=hour, mean=mean).filter(pl.col("mean") > 0)
    missed = known.with_columns(missed=100 * (pl.col("gpus") - pl.col("q0.5")) / pl.col("mean"))
    levels = {f"p{level}": pl.col("missed").quantile(level / 100) for level in (10, 25, 50, 75, 90)}
    rows = missed.group_by("hour").agg(**levels).sort("hour")
    pages.band(axes, rows["hour"], rows["p10"], rows["p90"], "fan", 0.2, label="four in five")
    pages.band(axes, rows["hour"], rows["p25"], rows["p75"], "fan", 0.35, label="half")
    axes.plot(rows["hour"], rows["p50"], color=BLUE, label="middle")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="hour of the day, UTC", ylabel="came less forecast, % of the series' mean", xlim=(0, 23))
    axes.legend()
    return figure


def _importance(model: DemandModel) -> pages.Figure:
    """The features by their share of the loss that the trees took away, over all levels."""
    figure, axes = pages.new_axes(6, 5)
    if not model.trees:
        axes.set_title("no series could be learned: naive forecasts only")
        return figure
    gains = pl.DataFrame([tree.gains() for tree in model.trees]).sum()
    total = max(float(gains.sum_horizontal()[0]), 1e-12)
    shares = sorted((100 * gain / total, name) for name, gain in gains.row(0, named=True).items())[-MOST_FEATURES:]
    axes.barh([name for _, name in shares], [share for share, _ in shares], color=BLUE)
    axes.set_xlabel("share of gain, %")
    return figure
