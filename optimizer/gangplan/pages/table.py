"""A table as the page shows it: headings, rows of text, which columns are numbers, and words for when it is empty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's heading; `unit` stands under it; numbers are set to the right."""

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


def text(name: str, unit: str = "") -> Column:
    """A column of words."""
    return Column(name=name, unit=unit, number=False)


def figure(name: str, unit: str = "") -> Column:
    """A column of numbers."""
    return Column(name=name, unit=unit)
