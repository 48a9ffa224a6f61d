"""The demand's last days with its forecast fan: all series together, and each by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from gangplan.pages import LIGHT, Axes, band, gpus_over_time, moment, new_axes, number, style, times, to_svg
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import SERIES, Forecast, Usage

SHOWN = timedelta(days=14)
_BANDS = (("q0.95", "q0.99", 0.12), ("q0.9", "q0.95", 0.22), ("q0.1", "q0.9", 0.38))


def total_demand(usage: Usage) -> pl.DataFrame:
    """Sum the shown hours over series; an hour in which any series is missing is null."""
    shown = usage.demand.filter(pl.col("hour") >= usage.end - SHOWN)
    known = pl.when(pl.col("gpus").is_null().any()).then(None).otherwise(pl.col("gpus").sum())
    return shown.group_by("hour", maintain_order=True).agg(known.alias("gpus")).sort("hour")


def total_forecast(quantiles: pl.DataFrame) -> pl.DataFrame:
    """Sum each quantile over series: an upper bound of the total's own quantile, exact if all series moved together."""
    return quantiles.group_by("hour", maintain_order=True).agg(pl.col(QUANTILE_COLUMNS).sum()).sort("hour")


def draw_demand(usage: Usage, forecast: Forecast) -> str:
    """Draw all series together."""
    demand, ahead = total_demand(usage), total_forecast(forecast.quantiles)
    with style():
        figure, axes = new_axes(11, 3.5)
        _draw(axes, demand, ahead, forecast.issued_at)
        axes.annotate(
            "forecast from here",
            (times([forecast.issued_at])[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(5, -2),
            textcoords="offset points",
            va="top",
            color=LIGHT["muted"],
        )
        gpus_over_time(axes, ticks=12, label="GPUs asked for")
        return to_svg(figure, "demand", "Demand of all series with its forecast fan", _describe(demand, ahead))


def draw_each(usage: Usage, forecast: Forecast) -> list[tuple[str, str]]:
    """Draw each series by itself, the largest first: its name and its SVG."""
    shown = usage.demand.filter(pl.col("hour") >= usage.end - SHOWN)
    keys = _by_size(forecast.quantiles, shown)
    return [(" / ".join(key), _draw_one(key, shown, forecast, f"series{index}")) for index, key in enumerate(keys)]


def _draw_one(key: tuple[str, ...], shown: pl.DataFrame, forecast: Forecast, name: str) -> str:
    of_series = pl.all_horizontal([pl.col(column) == value for column, value in zip(SERIES, key, strict=True)])
    demand, ahead = shown.filter(of_series).sort("hour"), forecast.quantiles.filter(of_series).sort("hour")
    with style():
        figure, axes = new_axes(3.7, 1.75)
        _draw(axes, demand, ahead, forecast.issued_at)
        gpus_over_time(axes, ticks=6)
        return to_svg(figure, name, f"Demand and forecast of {' / '.join(key)}", _describe(demand, ahead))


def _draw(axes: Axes, demand: pl.DataFrame, ahead: pl.DataFrame, issued_at: datetime) -> None:
    """Draw what happened as a line, missing hours as gaps, and the quantiles as a fan."""
    axes.plot(times(demand["hour"]), demand["gpus"].to_numpy(), color=LIGHT["ink"], linewidth=1.1)
    hours = times(ahead["hour"])
    for low, high, opacity in _BANDS:
        band(axes, hours, ahead[low].to_numpy(), ahead[high].to_numpy(), "fan", opacity)
    axes.plot(hours, ahead["q0.5"].to_numpy(), color=LIGHT["fan"], linewidth=1.5)
    axes.axvline(times([issued_at])[0], color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (3, 3)))


def _by_size(quantiles: pl.DataFrame, shown: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return all series, of the forecast or the past, by their mean demand."""
    parts = [quantiles.select(*SERIES, gpus=pl.col("q0.5")), shown.select(*SERIES, "gpus")]
    sizes = pl.concat(parts).group_by(SERIES, maintain_order=True).agg(pl.col("gpus").mean().fill_null(0.0))
    return sizes.sort("gpus", *SERIES, descending=[True, False, False, False]).select(SERIES).rows()


def _describe(demand: pl.DataFrame, ahead: pl.DataFrame) -> str:
    known = demand.drop_nulls("gpus")
    past = "No demand was recorded in the days shown."
    if not known.is_empty():
        past = f"Demand in the days shown: {_range(known, 'gpus')}."
    if ahead.is_empty():
        return f"{past} There is no forecast."
    peak = ahead.sort("q0.5", descending=True).row(0, named=True)
    return f"{past} Forecast median: {_range(ahead, 'q0.5')}; its peak is at {moment(peak['hour'])} UTC."


def _range(frame: pl.DataFrame, column: str) -> str:
    least, most = frame.select(pl.col(column).min().alias("least"), pl.col(column).max().alias("most")).row(0)
    return f"{number(least)} to {number(most)} GPUs"
