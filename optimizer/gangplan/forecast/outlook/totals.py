# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (scipy comes without stubs)
"""Totals of hourly forecasts, coherent from the bottom up: a total is the sum of its parts, path by path.

Quantiles do not add up: that of a sum lies below the sum of quantiles, by as much as series do not move together. So
paths are drawn for all series at once, whose values follow each series' quantiles and whose ranks follow what happened
in past windows (the Schaake shuffle). Every total, by tenant, accelerator, class or over all, is summed from the same
paths: means add up exactly, a series alone keeps its quantiles. A reconciliation such as MinT shifts the series by a
covariance of their errors, which a few hundred hours of a hundred series do not tell; here nothing is estimated.

Source: Clark and others, The Schaake shuffle, Journal of Hydrometeorology 5 (2004).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import ndtri

from gangplan.errors import InputError
from gangplan.forecast.evaluation import to_table
from gangplan.forecast.series import HOUR, Floats, Panel, from_usage, tidy
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES, Forecast, Usage

WINDOWS = 200
APART = 6
LEAST_WINDOWS = 10
WEEK = 168
ALL = "all"
MEAN = "mean"
_SCORES = ndtri(np.array(QUANTILES, dtype=np.float64))


def sum_up(usage: Usage, forecast: Forecast, by: str = "tenant") -> pl.DataFrame:
    """Sum a forecast up by one column of a series, and over all: `by`, hour, quantiles and the mean of each sum.

    Raises
    ------
    InputError
        When `by` names no column of a series.
    """
    if by not in SERIES:
        raise InputError("by", by, f"is no column of a series: use one of {', '.join(SERIES)}")
    panel, quantiles = _aligned(from_usage(usage), forecast)
    paths = paths_of(panel, quantiles)
    names = [key[SERIES.index(by)] for key in panel.keys]
    groups = {ALL: list(range(len(names)))}
    for place, name in enumerate(names):
        groups.setdefault(name, []).append(place)
    tables = [_summed(panel, paths[rows].sum(axis=0), name, by) for name, rows in groups.items()]
    return pl.concat(tables)


def paths_of(panel: Panel, quantiles: Floats) -> Floats:
    """Draw paths for the hours after the panel's end (series x horizon x paths), in GPUs.

    Parameters
    ----------
    quantiles
        series x horizon x levels of `types.QUANTILES`.
    """
    ranks = _ranks(panel, quantiles.shape[1])
    count = ranks.shape[2]
    score = ndtri((np.arange(count) + 0.5) / count)
    return np.take_along_axis(_at_scores(quantiles, score), ranks, axis=2)


def quantiles_of(paths: Floats) -> Floats:
    """Quantiles of paths (... x paths) at the levels of `types.QUANTILES`, sorted and at least 0 (... x levels)."""
    return tidy(np.moveaxis(np.quantile(paths, QUANTILES, axis=-1), 0, -1))


def _ranks(panel: Panel, horizon: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.int64]]:
    """The ranks of past windows, by how far each hour lay from the same hour of the week before (NaN: as then)."""
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
    """Values at normal scores, by straight lines through the levels' scores (series x horizon x scores)."""
    place = np.clip(np.searchsorted(_SCORES, scores) - 1, 0, _SCORES.size - 2)
    low, high = quantiles[:, :, place], quantiles[:, :, place + 1]
    share = (scores - _SCORES[place]) / (_SCORES[place + 1] - _SCORES[place])
    return np.maximum(0.0, low + share * (high - low))


def _aligned(panel: Panel, forecast: Forecast) -> tuple[Panel, Floats]:
    """The panel's series that are forecast, until the forecast's first hour, and their quantiles."""
    table = forecast.quantiles.sort(*SERIES, "hour")
    keys = table.select(SERIES).unique(maintain_order=True)
    made = table.select(QUANTILE_COLUMNS).to_numpy().reshape(keys.height, -1, len(QUANTILES))
    known = panel.until(max(0, min(panel.hours, (forecast.issued_at - panel.start) // HOUR)))
    places = {key: place for place, key in enumerate(panel.keys)}
    wanted = [(place, places[key]) for place, key in enumerate(keys.iter_rows()) if key in places]
    rows = np.array([row for _, row in wanted], dtype=np.int64)
    return known.only(rows), made[[place for place, _ in wanted]]


def _summed(panel: Panel, paths: Floats, name: str, by: str) -> pl.DataFrame:
    """One total's rows."""
    one = Panel(start=panel.start, keys=((name, name, name),), values=panel.values[:1], events=panel.events)
    table = to_table(one, quantiles_of(paths)[None])
    mean = pl.Series(MEAN, paths.mean(axis=1))
    return table.select(pl.col("tenant").alias(by), "hour", *QUANTILE_COLUMNS).with_columns(mean)
