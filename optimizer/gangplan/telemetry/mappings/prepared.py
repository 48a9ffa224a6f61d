"""What a preparation makes of rows before their columns are mapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Rows made ready, notes on what was left out or assumed, and the number of rows left out."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What makes rows ready, the columns that it makes, and those that it reads where they are there."""

    run: Callable[[pl.DataFrame], Prepared]
    makes: tuple[str, ...]
    reads: tuple[str, ...]


def rows_of(count: int) -> str:
    """Return a number of rows in words."""
    return f"{count:,} row{'' if count == 1 else 's'}"
