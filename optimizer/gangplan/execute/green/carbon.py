"""The carbon of grids: hourly series from users' own CSV files, and yearly means by region from CodeCarbon's data."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import fmean
from zoneinfo import ZoneInfo

from gangplan.clock import HOUR, floor_hour
from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.types import GridCarbon

UNITS = {"g/kWh": 1.0, "kg/MWh": 1.0, "t/GWh": 1.0, "lb/MWh": 0.45359237, "kg/kWh": 1000.0, "lb/kWh": 453.59237}
"""What one of each unit is in g/kWh."""

MOST = 3000.0
"""No grid emits more grams for each kWh: a greater number has another unit."""

TYPICAL = timedelta(days=28)
"""An hour that a series does not have counts as the mean of its hour of the day over the series' last days."""

COLUMNS = ("hour", "region", "g_per_kwh")
_SHIPPED = "regions.csv"

Series = dict[str, dict[datetime, float]]
"""Grams for each kWh by region and hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yearly:
    """The mean grams of CO2 for each kWh of a region's grid in one year; 0 where the source states no year."""

    region: str
    g_per_kwh: float
    year: int
    source: str

    @property
    def words(self) -> str:
        """Where the figure comes from."""
        when = f"of {self.year}" if self.year else "of a year that is not stated"
        return f"the yearly mean {when} ({self.source})"

    @property
    def grid(self) -> GridCarbon:
        """The same in every hour."""
        return GridCarbon(source=self.words, typical=(self.g_per_kwh,) * 24)


@dataclass(frozen=True, kw_only=True)
class CarbonColumns:
    """How a table of others is read: its column for each of ours, and what no column says.

    `region` is the one of all rows where no column names it; `zone` that of times without an offset.
    """

    names: Mapping[str, str]
    region: str = ""
    unit: str = "g/kWh"
    zone: str = "UTC"

    def __post_init__(self) -> None:
        for ours in self.names:
            if ours not in COLUMNS:
                raise InputError.unknown("column", ours, "no column of ours", COLUMNS)
        if self.unit not in UNITS:
            raise InputError.unknown("unit", self.unit, "no unit of carbon", UNITS)
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError):
            raise InputError.unknown("zone", self.zone, "no time zone") from None

    def column(self, ours: str) -> str:
        """Return the table's column for one of ours."""
        return self.names.get(ours, ours)


OURS = CarbonColumns(names={})


def read_carbon(path: Path, columns: CarbonColumns = OURS) -> Series:
    """Read hours, regions and grams; several rows of an hour, such as half hours, count as their mean."""
    found: dict[str, dict[datetime, list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            _check_header(table.fieldnames or (), columns)
            for line, row in enumerate(table, start=2):
                hour, region, grams = _row(row, columns, f"{path.name} line {line}")
                found.setdefault(region, {}).setdefault(hour, []).append(grams)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("carbon", path, f"cannot be read ({error}): give a CSV file in UTF-8") from None
    return {region: {hour: fmean(values) for hour, values in sorted(hours.items())} for region, hours in found.items()}


def _check_header(have: Sequence[str], columns: CarbonColumns) -> None:
    """Refuse a table that lacks a column."""
    for ours in COLUMNS:
        if columns.column(ours) not in have and not (ours == "region" and columns.region):
            remedy = f"is no column: the table has {', '.join(have)}; say which it is, {ours}=NAME"
            raise InputError(f"columns.{ours}", columns.column(ours), remedy)


def _row(row: Mapping[str, str | None], columns: CarbonColumns, where: str) -> tuple[datetime, str, float]:
    """Read a row; a mistake names file, line, field and value."""

    def text(ours: str) -> str:
        return (row.get(columns.column(ours)) or "").strip()

    region = text("region") or columns.region
    if not region:
        raise InputError("region", region, f"is missing ({where})")
    try:
        moment = datetime.fromisoformat(text("hour").replace(" ", "T", 1))
    except ValueError:
        raise InputError("hour", text("hour"), f"is no ISO 8601 time, like 2026-03-01T12:00Z ({where})") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(columns.zone))
    try:
        grams = float(text("g_per_kwh")) * UNITS[columns.unit]
    except ValueError:
        grams = -1.0
    if not 0 <= grams <= MOST:
        remedy = f"must be a number from 0 to {MOST:,.0f} g/kWh: name its unit, one of {', '.join(UNITS)} ({where})"
        raise InputError("g_per_kwh", text("g_per_kwh"), remedy)
    return floor_hour(moment.astimezone(UTC)), region, grams


def add_carbon(path: Path, added: Series) -> Series:
    """Write hours into the file, in the place of those that it has; return all of it."""
    kept = read_carbon(path) if path.exists() else {}
    for region, hours in added.items():
        kept[region] = dict(sorted({**kept.get(region, {}), **hours}.items()))
    lines = [
        f"{hour:%Y-%m-%dT%H:%MZ},{region},{grams:.6g}"
        for region, hours in sorted(kept.items())
        for hour, grams in hours.items()
    ]
    write_atomic(path, "\n".join([",".join(COLUMNS), *lines, ""]))
    return kept


def read_grids(path: Path) -> dict[str, GridCarbon]:
    """Return the file's grids by region; none without one."""
    return {region: grid_of(region, hours) for region, hours in (read_carbon(path) if path.exists() else {}).items()}


def grid_of(region: str, hours: Mapping[datetime, float]) -> GridCarbon:
    """Make a grid of a series; a gap within it is filled with what is typical of its hour of the day."""
    first, last = min(hours), max(hours)
    late = {hour: grams for hour, grams in hours.items() if hour > last - TYPICAL}
    mean = fmean(late.values())
    by_hour = [[grams for hour, grams in late.items() if hour.hour == place] for place in range(24)]
    typical = tuple(fmean(values) if values else mean for values in by_hour)
    every = [first + place * HOUR for place in range(int((last - first) / HOUR) + 1)]
    missing = len(every) - len(hours)
    gaps = f", {missing} of them missing" if missing else ""
    return GridCarbon(
        source=f"hourly series of {region}, {first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}{gaps}",
        typical=typical,
        start=first,
        hourly=tuple(hours.get(hour, typical[hour.hour]) for hour in every),
    )


@cache
def yearly_grids() -> Mapping[str, Yearly]:
    """Return the yearly means that ship with gangplan: countries by ISO code, and regions of Google Cloud."""
    text = (resources.files("gangplan.execute.green") / _SHIPPED).read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["region"]: Yearly(
            region=row["region"], g_per_kwh=float(row["g_per_kwh"]), year=int(row["year"]), source=row["source"]
        )
        for row in rows
    }
