"""Tables of a page: headings, rows of text, which columns are numbers, and a sentence for an empty table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = TypeVar("Row")
Cells = list[tuple["Column", Callable[[dict[str, Any]], str]]]
"""Columns of a table whose rows are dictionaries."""


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
