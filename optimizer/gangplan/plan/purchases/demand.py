"""Demand of months ahead: typical weeks, and paths of growth, or a table by month, that multiply them.

Typical weeks are real ones (k-medoids, see docs/plan-horizon.md), so that hours and series keep their correlations.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.plan.problem import Array, Series
from gangplan.types import SERIES

WEEK = 168  # hours
KEPT_WEEKS = 12
"""How many of the last weeks may be typical ones. Raised: slower, and older weeks count."""

BEYOND = 0.1
"""The share of money bound after the horizon that counts as lost: without it long terms would seem free at its end."""

COLUMNS = ("month", *SERIES, "gpus")
_EIGHT_OF_TEN = NormalDist().inv_cdf(0.9)
_GRAIN = 6  # hours that are added up before weeks are compared: their shape counts, not single hours


@dataclass(frozen=True, kw_only=True)
class PurchaseHorizon:
    """How to plan purchases: so many `months`, equally likely `paths` of growth, and typical `weeks`.

    `beyond` is the share of money bound after the last month that counts as lost.
    """

    months: int = 12
    paths: int = 10
    weeks: int = 2
    beyond: float = BEYOND

    def days_from(self, start: date) -> int:
        """Return how many days the months have."""
        return (add_months(start, self.months) - start) // timedelta(days=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """What was asked for: hourly GPUs of shape (series, hours) from `start` on, NaN where unknown."""

    series: tuple[Series, ...]
    values: Array
    start: datetime

    @property
    def end(self) -> date:
        """The day on which it ends: the first day of the months ahead."""
        return (self.start + timedelta(hours=self.values.shape[1])).date()


@dataclass(frozen=True, kw_only=True, eq=False)
class LongDemand:
    """GPUs asked for, month by month: `means` times a typical week.

    start : the first day
    weeks : from Monday 00:00 UTC, as multiples of `means`, shape (typical weeks, series, 168)
    weights : the share of all weeks that each typical week stands for
    means : GPUs, shape (paths, series, months)
    """

    start: date
    series: tuple[Series, ...]
    weeks: Array
    weights: Array
    means: Array

    def __post_init__(self) -> None:
        for name in ("weeks", "weights", "means"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or (values < 0).any():
                raise InputError(f"demand.{name}", "", "must be finite numbers of at least 0: correct the demand")

    @property
    def months(self) -> int:
        """The number of months."""
        return self.means.shape[2]

    @property
    def edges(self) -> tuple[date, ...]:
        """The first day of each month, and the day after the last."""
        return tuple(add_months(self.start, month) for month in range(self.months + 1))

    @property
    def hours(self) -> Array:
        """Hours in each month."""
        edges = self.edges
        return np.array([(after - day).days * 24.0 for day, after in pairwise(edges)])


def add_months(day: date, months: int) -> date:
    """Return the same day so many months later, or the last one of that month."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def typical_weeks(values: Array, start: datetime, groups: Sequence[int], count: int) -> tuple[Array, Array]:
    """Find the weeks that represent the last ones best, and the share of weeks that each represents.

    `values` are GPUs, shape (series, hours), NaN where unknown. `groups` has the group of each series; each group's
    mean is 1 in every week that is returned.
    """
    weeks = _whole_weeks(values, start)
    member = np.array(groups)[:, None] == np.arange(max(groups) + 1)
    level = np.einsum("wsh,sg->wg", weeks, member.astype(float)) / WEEK
    scale = np.divide(1.0, level, out=np.zeros_like(level), where=level > 0)
    scaled = weeks * scale[:, list(groups), None]
    shape = np.einsum("wsh,sg->wgh", scaled, member.astype(float)).reshape(len(weeks), -1, WEEK // _GRAIN, _GRAIN)
    distance = np.abs(shape.mean(axis=-1)[:, None] - shape.mean(axis=-1)[None]).sum(axis=(2, 3))
    chosen = min(
        combinations(range(len(weeks)), min(count, len(weeks))),
        key=lambda some: distance[:, list(some)].min(axis=1).sum(),
    )
    nearest = distance[:, list(chosen)].argmin(axis=1)
    return scaled[list(chosen)], np.bincount(nearest, minlength=len(chosen)) / len(weeks)


def _whole_weeks(values: Array, start: datetime) -> Array:
    """Cut out the last whole weeks, Monday to Sunday; an unknown hour gets that hour's mean in other weeks."""
    first = (7 - start.weekday()) % 7 * 24 - start.hour
    first += WEEK if first < 0 else 0
    count = min(KEPT_WEEKS, (values.shape[1] - first) // WEEK)
    if count < 1:
        remedy = "has no whole week from a Monday on: import at least two weeks"
        raise InputError("demand", f"{values.shape[1]} hours", remedy)
    end = first + (values.shape[1] - first) // WEEK * WEEK
    weeks = values[:, end - count * WEEK : end].reshape(len(values), count, WEEK).swapaxes(0, 1)
    known = ~np.isnan(weeks)
    usual = np.where(known, weeks, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, weeks, usual)


def monthly_paths(daily: Array, start: date, months: int, count: int) -> Array:
    """Turn drawn days into equally likely paths of months: the draws at evenly spaced ranks from low to high growth.

    `daily` are GPUs, shape (draws, groups, days), from `start` on; the result has the shape (count, groups, months).
    """
    places = [(add_months(start, month) - start).days for month in range(months + 1)]
    if daily.shape[2] < places[-1]:
        raise InputError("months", months, f"is further ahead than the {daily.shape[2]} days of the forecast")
    means = np.stack([daily[:, :, a:b].mean(axis=2) for a, b in pairwise(places)], axis=2)
    order = means.sum(axis=(1, 2)).argsort(kind="stable")
    return means[order[[int((place + 0.5) / count * len(order)) for place in range(count)]]]


def demand_from_growth(history: History, growth: Mapping[str, Array], horizon: PurchaseHorizon) -> LongDemand:
    """Multiply typical weeks of the history by the growth of each accelerator's demand.

    `growth` has drawn daily GPUs of each accelerator from the end of the history on, shape (draws, days).
    """
    group_of = {name: index for index, name in enumerate(growth)}
    groups = [group_of[key[2]] for key in history.series]
    weeks, weights = typical_weeks(history.values, history.start, groups, horizon.weeks)
    daily = np.stack(list(growth.values()), axis=1)
    means = monthly_paths(daily, history.end, horizon.months, horizon.paths)[:, groups]
    return LongDemand(start=history.end, series=history.series, weeks=weeks, weights=weights, means=means)


def read_demand_table(path: Path) -> pl.DataFrame:
    """Read a CSV file with month (2026-05), tenant, workload_class, accelerator, gpus, and optionally low and high.

    `gpus` is the month's mean; `low` and `high` are its bounds in 8 of 10 cases.
    """
    try:
        table = pl.read_csv(path, schema_overrides={"month": pl.String})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("demand", path, f"cannot be read as CSV ({error}): correct the file") from None
    for column in COLUMNS:
        if column not in table.columns:
            raise InputError(f"demand.{column}", path, f"is missing: give the columns {', '.join(COLUMNS)}")
    table = table.with_columns(pl.col("month").str.slice(0, 7).str.to_date("%Y-%m", strict=False))
    table = table.with_columns(pl.col(name).cast(pl.Float64, strict=False) for name in _numbers(table))
    return _checked(table)


def _numbers(table: pl.DataFrame) -> list[str]:
    return [name for name in ("gpus", "low", "high") if name in table.columns]


def _checked(table: pl.DataFrame) -> pl.DataFrame:
    """Refuse a value that is no month or no number, and a series that lacks a month."""
    for row, values in enumerate(table.iter_rows(named=True), start=2):
        if values["month"] is None:
            raise InputError(f"demand line {row}: month", None, "is no month: write 2026-05")
        for name in _numbers(table):
            value = values[name]
            if value is None or not np.isfinite(value) or value < 0:
                raise InputError(f"demand line {row}: {name}", value, "must be a number of at least 0")
    months = table["month"].unique().sort().to_list()
    expected = [add_months(months[0], place) for place in range(len(months))]
    for name, rows in table.group_by(SERIES, maintain_order=True):
        if rows["month"].sort().to_list() != expected:
            label = "/".join(str(part) for part in name)
            remedy = f"must have each month from {months[0]:%Y-%m} once"
            raise InputError(f"demand[{label}]", f"{rows.height} rows", remedy)
    return table.sort(*SERIES, "month")


def demand_from_table(path: Path, history: History | None, horizon: PurchaseHorizon) -> LongDemand:
    """Multiply the typical weeks of the history by a table's months; without a history each week is flat."""
    table = read_demand_table(path)
    if history is None:
        return _from_table(table, horizon.paths, {}, np.ones(1))
    weeks, weights = typical_weeks(history.values, history.start, range(len(history.series)), horizon.weeks)
    shapes = {key: weeks[:, s] for s, key in enumerate(history.series) if weeks[:, s].any()}
    return _from_table(table, horizon.paths, shapes, weights)


def _from_table(table: pl.DataFrame, paths: int, shapes: dict[Series, Array], weights: Array) -> LongDemand:
    """Make paths at evenly spaced probabilities; a path is high, or low, in all months and series.

    `shapes` are the typical weeks of the series that the history has, shape (typical weeks, 168); others are flat.
    """
    series: tuple[Series, ...] = tuple(table.select(SERIES).unique(maintain_order=True).iter_rows())
    scores = np.array([NormalDist().inv_cdf((place + 0.5) / paths) for place in range(paths)]) / _EIGHT_OF_TEN
    columns = {name: table[name].to_numpy().reshape(len(series), -1) for name in _numbers(table)}
    middle = columns["gpus"]
    low, high = columns.get("low", middle), columns.get("high", middle)
    spread = np.where(scores[:, None, None] < 0, middle - low, high - middle)
    start: date = table["month"].min()  # pyright: ignore[reportAssignmentType]
    flat = np.ones((len(weights), WEEK))
    return LongDemand(
        start=start,
        series=series,
        weeks=np.stack([shapes.get(key, flat) for key in series], axis=1),
        weights=weights,
        means=np.maximum(0.0, middle + scores[:, None, None] * spread),
    )
