"""What a served model is asked: demand by the hour, a horizon, events ahead; read, and refused where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import polars as pl

from gangplan.clock import parse_utc
from gangplan.errors import InputError
from gangplan.tables import EVENTS
from gangplan.types import SERIES, WorkloadClass

LONGEST = 24 * 90
"""Hours: the longest horizon, as that of the settings."""

SPAN = timedelta(days=1096)
"""How far from the end of its training a model is asked; one wrong time would make a panel of centuries."""

_COLUMNS = ("hour", *SERIES, "gpus")


def read_demand(given: pd.DataFrame, trained_until: datetime | None) -> pl.DataFrame:
    """Return pandas' demand by the hour as a table in UTC.

    Raises
    ------
    InputError
        A column is missing or unknown, or a value is none of its column; the first is named with its row.
    """
    names = [str(name) for name in cast("list[object]", list(given.columns))]
    for name in names:
        if name not in _COLUMNS:
            raise InputError.unknown(name, name, "no column of demand", _COLUMNS)
    for name in _COLUMNS:
        if name not in names:
            raise InputError.missing(name)
    try:
        told = cast("pl.DataFrame", pl.from_pandas(given[list(_COLUMNS)], nan_to_null=False))
        frame = told.with_columns(pl.col("gpus").cast(pl.Float64))
        table = frame.with_columns(pl.col("hour").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InputError("demand", "a column", f"has values of another type ({why[:200]}): see its signature") from None
    _require_rows(table, trained_until)
    return table


def _require_rows(table: pl.DataFrame, trained_until: datetime | None) -> None:
    """Refuse the first value that is wrong."""
    if not table.height:
        raise InputError("demand", "0 rows", "has no hour to forecast from: give the hours that are known")
    hour, gpus = pl.col("hour"), pl.col("gpus")
    rules = [
        ("hour", hour.is_null(), "is missing: give a time in UTC"),
        ("hour", hour != hour.dt.truncate("1h"), "is no full hour in UTC: give the start of an hour"),
        *((name, pl.col(name).is_null() | (pl.col(name) == ""), "is missing: name it") for name in SERIES),
        (
            "workload_class",
            ~pl.col("workload_class").is_in([kind.value for kind in WorkloadClass]),
            f"is no class: use one of {', '.join(WorkloadClass)}",
        ),
        (
            "gpus",
            ~(gpus.is_finite() & (gpus >= 0)).fill_null(value=False),
            "is no number of 0 or more: leave the row out where nothing was measured",
        ),
        ("hour", pl.struct("hour", *SERIES).is_duplicated(), "stands twice in its series: give each hour once"),
    ]
    if trained_until is not None:
        far = (hour - trained_until).abs() > SPAN
        rules.insert(2, ("hour", far, f"is more than three years from {trained_until:%Y-%m-%d}, where training ended"))
    for field, wrong, remedy in rules:
        rows = table.with_row_index("row", 1).filter(wrong)
        if rows.height:
            first = rows.row(0, named=True)
            value = "" if first[field] is None else str(first[field])
            raise InputError(f"{field} (row {first['row']})", value, remedy)


def read_horizon(params: Mapping[str, Any], otherwise: int) -> int:
    """Return the hours ahead that are asked for, from 1 to `LONGEST`."""
    hours = params.get("horizon_hours", otherwise)
    if isinstance(hours, bool) or not 1 <= hours <= LONGEST or hours != int(hours):
        raise InputError("horizon_hours", hours, f"must be a whole number from 1 to {LONGEST}")
    return int(hours)


def read_events(text: str) -> pl.DataFrame:
    """Return the events of a JSON list: each with `start`, `end` and `kind`, and with `tenant` or none for all."""
    try:
        entries: Any = json.loads(text)
    except ValueError as error:
        raise InputError("events", text, f"is no JSON ({error}): give a list") from None
    if not isinstance(entries, list):
        raise InputError("events", text, "is no list: give [] where there are none")
    rows = [_event(entry, f"events.{place}") for place, entry in enumerate(entries)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return pl.DataFrame(rows, schema=EVENTS)


def _event(entry: Any, place: str) -> dict[str, Any]:
    """Return one event."""
    if not isinstance(entry, dict):
        raise InputError(place, str(entry), 'is no event: give {"start": ..., "end": ..., "kind": ...}')
    given: dict[str, Any] = dict(entry)  # pyright: ignore[reportUnknownArgumentType]
    for field in given:
        if field not in EVENTS:
            raise InputError.unknown(f"{place}.{field}", given[field], "no field of an event", EVENTS)
    for field in ("start", "end", "kind"):
        if not isinstance(given.get(field), str) or not given[field]:
            raise InputError.missing(f"{place}.{field}", given.get(field, ""))
    start, end = (parse_utc(f"{place}.{field}", given[field]) for field in ("start", "end"))
    if end < start:
        raise InputError(f"{place}.end", given["end"], "is before the start")
    if not isinstance(given.get("tenant"), str | None):
        raise InputError(f"{place}.tenant", given["tenant"], "is no name: give text, or null for all")
    return {"start": start, "end": end, "kind": given["kind"], "tenant": given.get("tenant")}
