"""Rolling origins: what the recipe would have forecast on past days, from what was known then.

The trees are fitted once, on what lies before the first origin, and serve all origins. So every forecast here is out of
sample, and the same fit can be asked again, without a leak, when a later challenger is compared with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.forecast import models
from gangplan.forecast.models import DemandModel
from gangplan.forecast.series import DAY, Floats, Panel, known_mean
from gangplan.tables import BACKTEST, QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.types import SERIES

LEAST_PAST = DAY
LEAST_HOURS = 48


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which origins are tested and how far; an origin is the number of hours known at it."""

    origins: tuple[int, ...]
    horizon: int


def choose_window(panel: Panel, horizon: int, origins: int) -> Window:
    """Choose rolling origins a day apart, the last one `horizon` hours before the end.

    A short past gives a shorter horizon (a third of it at most), then fewer origins.
    """
    if panel.hours < LEAST_HOURS:
        remedy = f"is too little to train on: import at least {LEAST_HOURS} hours"
        raise InputError("demand", f"{panel.hours} hours", remedy)
    reach = min(horizon, max(DAY, panel.hours // 3 // DAY * DAY))
    last = panel.hours - reach
    count = min(origins, 1 + max(0, last - max(LEAST_PAST, panel.hours // 2)) // DAY)
    return Window(origins=tuple(last - DAY * back for back in reversed(range(count))), horizon=reach)


def run_backtest(model: DemandModel, panel: Panel, window: Window) -> pl.DataFrame:
    """Forecast from each origin with what was known at it (schema `tables.BACKTEST`)."""
    return _roll(lambda known, horizon: model.quantiles(known, horizon)[0], panel, window)


def run_naive(panel: Panel, window: Window) -> pl.DataFrame:
    """The same for seasonal naive with the quantiles of its own past errors (schema `tables.BACKTEST`)."""
    return _roll(models.seasonal_quantiles, panel, window)


def to_table(panel: Panel, quantiles: Floats) -> pl.DataFrame:
    """Lay quantiles (series x horizon x levels) out as the table that stages hand over (`tables.QUANTILE_TABLE`)."""
    return conform("quantiles", rows_of(panel, quantiles), QUANTILE_TABLE)


def scales(panel: Panel, window: Window) -> pl.DataFrame:
    """Return the mean error of yesterday's same hour before the first origin, by series: the unit of MASE."""
    known = panel.values[:, : window.origins[0]]
    scale = np.nan_to_num(known_mean(np.abs(known[:, DAY:] - known[:, :-DAY]), axis=1))
    rows = [(*key, value) for key, value in zip(panel.keys, scale, strict=True)]
    return pl.DataFrame(rows, [*SERIES, "scale"], orient="row")


def steps_ahead(table: pl.DataFrame) -> pl.Series:
    """Return how many hours after its origin each row lies, from 1."""
    return (table["hour"] - table["origin"]).dt.total_hours() + 1


def rows_of(panel: Panel, quantiles: Floats, **columns: Floats) -> pl.DataFrame:
    """Lay quantiles (series x steps x levels) and more columns (series x steps) out as rows after the panel's end.

    The panel's end is their `origin`, and `hour` the start of each step.
    """
    hours = [panel.end + place * panel.step for place in range(quantiles.shape[1])]
    names = {name: [key[place] for key in panel.keys for _ in hours] for place, name in enumerate(SERIES)}
    levels = {name: quantiles[:, :, level].ravel() for level, name in enumerate(QUANTILE_COLUMNS)}
    more = {name: values.ravel() for name, values in columns.items()}
    rows = pl.DataFrame({"hour": hours * len(panel.keys), **names, **levels, **more})
    return rows.with_columns(pl.lit(panel.end).dt.cast_time_unit("us").alias("origin"))


def _roll(forecast: Callable[[Panel, int], Floats], panel: Panel, window: Window) -> pl.DataFrame:
    """Ask for a forecast at each origin and set beside it what came."""
    parts: list[pl.DataFrame] = []
    for origin in window.origins:
        known = panel.until(origin)
        naive, came = models.seasonal_point(known, window.horizon), panel.values[:, origin : origin + window.horizon]
        parts.append(rows_of(known, forecast(known, window.horizon), naive=naive, gpus=came))
    return conform("backtest", pl.concat(parts).with_columns(pl.col("gpus").fill_nan(None)), BACKTEST)
