"""HTML templates, their tables, and how they write numbers, times and durations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from markupsafe import Markup, escape

from gangplan.clock import in_words

_SHARED = Path(__file__).parent  # parts.html.j2 is here, and every page may use it

NOTHING = "–"  # noqa: RUF001  the typographer's dash for an empty cell


def number(value: float | None, digits: int = 0) -> str:
    """Format a number with thousands separators; None is a dash."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:z,.{digits}f}"  # z: a rounded -0 is 0


def share(value: float | None, digits: int = 0) -> str:
    """Format a share in per cent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}%}".replace("%", " %")


def moment(value: datetime | None) -> str:
    """Format a time to the minute; the page says once that all are UTC."""
    return NOTHING if value is None else f"{value:%a %d %b %H:%M}"


def second(value: datetime | None) -> str:
    """Format a time to the second."""
    return NOTHING if value is None else f"{value:%d %b %H:%M:%S}"


def duration(value: timedelta | float | None) -> str:
    """Format a duration, or seconds, in its two largest units."""
    if value is None:
        return NOTHING
    total = round(value.total_seconds() if isinstance(value, timedelta) else value)
    sign, total = ("-", -total) if total < 0 else ("", total)
    parts = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min"), (total % 60, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return sign + (" ".join(shown) or "0 s")


def factor(value: float | None) -> str:
    """Format a factor as a change in per cent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    change = round((value - 1) * 100)
    return "none" if change == 0 else f"{change:+d} %"


def templates(folder: Path) -> jinja2.Environment:
    """Return a folder's templates: every value is escaped, and a name without a value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {
        "moment": moment,
        "number": number,
        "share": share,
        "duration": duration,
        "in_words": in_words,
        "breakable": _breakable,
    }
    environment.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]
    return environment


def _breakable(cell: str) -> Markup:
    """Let a long key break after its slashes, and escape the rest."""
    return escape(cell).replace("/", Markup("/<wbr>"))


Row = TypeVar("Row")
Cells = list[tuple["Column", Callable[[dict[str, Any]], str]]]
"""Columns of a table whose rows are dictionaries."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of a page's head: its name, its value with its unit, and a note."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's heading with a unit under it; numbers are aligned to the right."""

    name: str
    unit: str = ""
    number: bool = True


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under headings."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str


def table_of(
    caption: str, rows: Sequence[Row], columns: Sequence[tuple[Column, Callable[[Row], str]]], *, empty: str = ""
) -> Table:
    """Make a table: each column is its heading and what it shows of a row."""
    return Table(
        caption=caption,
        columns=tuple(column for column, _ in columns),
        rows=tuple(tuple(show(row) for _, show in columns) for row in rows),
        empty=empty,
    )


def text(name: str, unit: str = "") -> Column:
    """Return a column of words."""
    return Column(name=name, unit=unit, number=False)


def figure(name: str, unit: str = "") -> Column:
    """Return a column of numbers."""
    return Column(name=name, unit=unit)
