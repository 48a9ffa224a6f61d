"""Demand of months ahead from a table by month, instead of the trend."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.plan.problem import Array, Series
from gangplan.plan.purchases.demand import WEEK, History, LongDemand, PurchaseHorizon, add_months, typical_weeks
from gangplan.types import SERIES

COLUMNS = ("month", *SERIES, "gpus")
_EIGHT_OF_TEN = NormalDist().inv_cdf(0.9)


def read_demand_table(path: Path) -> pl.DataFrame:
    """Read a CSV file with month (2026-05), tenant, workload_class, accelerator, gpus, and optionally low and high.

    `gpus` is the month's mean; `low` and `high` are its bounds in 8 of 10 cases.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a value is no number of at least 0, or a month is missing.
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
    """Return the columns that have numbers."""
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
            raise InputError(
                f"demand[{label}]", f"{rows.height} rows", f"must have each month from {months[0]:%Y-%m} once"
            )
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
