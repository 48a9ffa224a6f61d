"""Totals of hourly forecasts, coherent from the bottom up: a total is the sum of its parts, path by path.

Paths are drawn for all series at once: their values follow each series' quantiles, their ranks those of past windows.
Source: Clark and others, The Schaake shuffle, Journal of Hydrometeorology 5 (2004).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from gangplan.clock import HOUR
from gangplan.forecast.evaluation import to_table
from gangplan.forecast.outlook.growth import names_by
from gangplan.forecast.series import WEEK, Floats, Ints, Panel, from_usage, normal_scores, tidy
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES, Forecast, Usage

WINDOWS = 200
APART = 6
LEAST_WINDOWS = 10
ALL = "all"
MEAN = "mean"
_SCORES = normal_scores(np.array(QUANTILES))


def sum_up(usage: Usage, forecast: Forecast, by: str = "tenant") -> pl.DataFrame:
    """Sum a forecast up by one column of a series, and over all: `by`, hour, quantiles and the mean of each sum."""
    panel, quantiles = _aligned(from_usage(usage), forecast)
    names = names_by(panel, by)
    paths = paths_of(panel, quantiles)
    groups = {ALL: list(range(len(names)))}
    for row, name in enumerate(names):
        groups.setdefault(name, []).append(row)
    return pl.concat([_summed(panel, paths[rows].sum(axis=0), name, by) for name, rows in groups.items()])


def paths_of(panel: Panel, quantiles: Floats) -> Floats:
    """Draw paths for the hours after the panel's end (series x horizon x paths) from quantiles, in GPUs."""
    ranks = _ranks(panel, quantiles.shape[1])
    count = ranks.shape[2]
    score = normal_scores((np.arange(count, dtype=np.float64) + 0.5) / count)
    return np.take_along_axis(_at_scores(quantiles, score), ranks, axis=2)


def quantiles_of(paths: Floats) -> Floats:
    """Quantiles of paths (... x paths) at the levels of `types.QUANTILES`, sorted and at least 0 (... x levels)."""
    return tidy(np.moveaxis(np.quantile(paths, QUANTILES, axis=-1), 0, -1))


def _ranks(panel: Panel, horizon: int) -> Ints:
    """Rank past windows by how far each hour lay from the same hour of the week before (series x horizon x windows).

    Where a difference is unknown it counts as none.
    """
    weeks = -(-np.arange(1, horizon + 1) // WEEK) * WEEK
    most = max(50, min(WINDOWS, WINDOWS * 2 * WEEK // horizon))  # of long paths fewer: they take memory
    first = panel.hours - horizon - APART * np.arange(most)
    first = first[first >= int(weeks[-1])]
    if first.size < LEAST_WINDOWS:  # too short a past to tell what moves together: independent
        return np.random.default_rng(0).permuted(np.tile(np.arange(100), (len(panel.keys), horizon, 1)), axis=2)
    hours = first[None, :] + np.arange(horizon)[:, None]
    moved = np.nan_to_num(panel.values[:, hours] - panel.values[:, hours - weeks[:, None]])
    # Ties, of a series that stands still, fall at random, not in the order of time.
    noise = np.random.default_rng(0).random(moved.shape)
    order = np.lexsort((noise, moved), axis=2)
    return np.argsort(order, axis=2)


def _at_scores(quantiles: Floats, scores: Floats) -> Floats:
    """Interpolate values at normal scores linearly between the levels' scores (series x horizon x scores)."""
    place = np.clip(np.searchsorted(_SCORES, scores) - 1, 0, _SCORES.size - 2)
    low, high = quantiles[:, :, place], quantiles[:, :, place + 1]
    share = (scores - _SCORES[place]) / (_SCORES[place + 1] - _SCORES[place])
    return np.maximum(0.0, low + share * (high - low))


def _aligned(panel: Panel, forecast: Forecast) -> tuple[Panel, Floats]:
    """Return the panel's series that are forecast, until the forecast's first hour, and their quantiles."""
    table = forecast.quantiles.sort(*SERIES, "hour")
    keys = table.select(SERIES).unique(maintain_order=True)
    quantiles = table.select(QUANTILE_COLUMNS).to_numpy().reshape(keys.height, -1, len(QUANTILES))
    known = panel.until(max(0, min(panel.hours, (forecast.issued_at - panel.start) // HOUR)))
    rows = {key: row for row, key in enumerate(panel.keys)}
    wanted = [(place, rows[key]) for place, key in enumerate(keys.iter_rows()) if key in rows]
    known_rows = np.array([row for _, row in wanted], dtype=np.int64)
    return known.only(known_rows), quantiles[[place for place, _ in wanted]]


def _summed(panel: Panel, paths: Floats, name: str, by: str) -> pl.DataFrame:
    total = Panel(start=panel.start, keys=((name, name, name),), values=panel.values[:1])
    table = to_table(total, quantiles_of(paths)[None])
    mean = pl.Series(MEAN, paths.mean(axis=1))
    return table.select(pl.col("tenant").alias(by), "hour", *QUANTILE_COLUMNS).with_columns(mean)
