"""Demand of months to come as people know it: a table by month instead of the trend."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl

from gangplan.errors import InputError
from gangplan.plan.problem import Array, Series
from gangplan.plan.purchases.demand import WEEK, LongDemand, add_months
from gangplan.types import SERIES

COLUMNS = ("month", *SERIES, "gpus")
_EIGHT_OF_TEN = NormalDist().inv_cdf(0.9)


def read_demand_table(path: Path) -> pl.DataFrame:
    """Read a CSV file: month (2026-05), tenant, workload_class, accelerator, gpus, and perhaps low and high.

    `gpus` is the month's mean, `low` and `high` bound it in 8 of 10 cases.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a value is no number of at least 0, or a month is missing.
    """
    try:
        table = pl.read_csv(path, schema_overrides={"month": pl.String})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("demand", path, f"cannot be read as CSV ({error}): mend the file") from None
    for column in COLUMNS:
        if column not in table.columns:
            raise InputError(f"demand.{column}", path, f"is missing: give the columns {', '.join(COLUMNS)}")
    table = table.with_columns(pl.col("month").str.slice(0, 7).str.to_date("%Y-%m", strict=False))
    table = table.with_columns(pl.col(name).cast(pl.Float64, strict=False) for name in _numbers(table))
    return _checked(table)


def _numbers(table: pl.DataFrame) -> list[str]:
    """The columns that are numbers."""
    return [name for name in ("gpus", "low", "high") if name in table.columns]


def _checked(table: pl.DataFrame) -> pl.DataFrame:
    """Refuse what is no month and no number, and a series that lacks a month."""
    for row, values in enumerate(table.iter_rows(named=True), start=2):
        if values["month"] is None:
            raise InputError(f"demand line {row}: month", None, "is no month: write 2026-05")
        for name in _numbers(table):
            value = values[name]
            if value is None or not np.isfinite(value) or value < 0:
                raise InputError(f"demand line {row}: {name}", value, "must be a number of at least 0")
    months = table["month"].unique().sort().to_list()
    wanted = [add_months(months[0], place) for place in range(len(months))]
    for name, rows in table.group_by(SERIES, maintain_order=True):
        if rows["month"].sort().to_list() != wanted:
            label = "/".join(str(part) for part in name)
            raise InputError(
                f"demand[{label}]", f"{rows.height} rows", f"must have each month from {months[0]:%Y-%m} once"
            )
    return table.sort(*SERIES, "month")


def from_table(table: pl.DataFrame, paths: int, shapes: Mapping[Series, Array], weights: Array) -> LongDemand:
    """Make demand of a table: paths stand at evenly spaced probabilities, high in all months and series or in none.

    Parameters
    ----------
    shapes : the typical weeks of series that telemetry knows, shape (typical weeks, 168), of mean 1; others are flat
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
        weeks=np.stack([shapes.get(one, flat) for one in series], axis=1),
        weights=weights,
        means=np.maximum(0.0, middle + scores[:, None, None] * spread),
    )
