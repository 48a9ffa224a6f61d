"""A forecast's table as arrays, refused where it has gaps or what is no number."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.errors import InputError
from gangplan.tables import QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.types import QUANTILES, SERIES, Forecast

Array: TypeAlias = NDArray[np.float64]
Series: TypeAlias = tuple[str, str, str]


def read_quantiles(forecast: Forecast, horizon: int) -> tuple[datetime, tuple[Series, ...], Array]:
    """Give the first hour, the series and their quantiles, GPUs of shape (series, hours, levels)."""
    table = conform("forecast", forecast.quantiles, QUANTILE_TABLE).sort(*SERIES, "hour")
    if table.is_empty():
        raise InputError("forecast.quantiles", "[]", "is empty: run `gangplan train` on telemetry with demand")
    start: datetime = table["hour"].min()  # pyright: ignore[reportAssignmentType]
    last: datetime = table["hour"].max()  # pyright: ignore[reportAssignmentType]
    hours = min(horizon, int((last - start) / timedelta(hours=1)) + 1)
    table = table.filter(pl.col("hour") < start + timedelta(hours=hours))
    _check_numbers(table)
    series = tuple(table.select(SERIES).unique(maintain_order=True).iter_rows())
    _check_hours(table, start, hours)
    values = table.select(QUANTILE_COLUMNS).to_numpy().reshape(len(series), hours, len(QUANTILES))
    return start, series, values


def _check_numbers(table: pl.DataFrame) -> None:
    """Refuse the first row whose quantiles are not finite numbers."""
    bad = table.filter(~pl.all_horizontal(pl.col(column).is_finite().fill_null(False) for column in QUANTILE_COLUMNS))
    if not bad.is_empty():
        row = bad.row(0, named=True)
        column = next(c for c in QUANTILE_COLUMNS if row[c] is None or not np.isfinite(row[c]))
        where = f"forecast.quantiles[{'/'.join(row[part] for part in SERIES)}, {row['hour']:%Y-%m-%dT%H:%MZ}].{column}"
        raise InputError(where, row[column], "is not a number: mend the telemetry of that series or train again")


def _check_hours(table: pl.DataFrame, start: datetime, hours: int) -> None:
    """Refuse a series that has not each hour once."""
    wanted = pl.Series([start + timedelta(hours=hour) for hour in range(hours)]).to_list()
    for name, rows in table.group_by(SERIES, maintain_order=True):
        if rows["hour"].to_list() != wanted:
            label = "/".join(str(part) for part in name)
            raise InputError(
                f"forecast.quantiles[{label}]",
                f"{rows.height} rows",
                f"must have each of the {hours} hours from {start:%Y-%m-%dT%H:%MZ} once: forecast again",
            )
