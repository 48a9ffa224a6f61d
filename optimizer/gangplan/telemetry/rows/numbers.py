"""Numbers with a decimal comma, as spreadsheets of half the world write them: read where there is no doubt.

"1.234" is 1.234 or 1234, and so is "1,234". What decides is asked for, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gangplan.errors import InputError
from gangplan.telemetry.rows.delimited import LINE, PLACE

_NUMERIC = r"^[+-]?[\d.,]+$"
_GROUPED = r"^[+-]?[1-9]\d{{0,2}}({0}\d{{3}})+$"
"""A number whose groups of three digits are set apart: 1.234.567"""

_REMEDY = "name its decimal sign: --decimal , or --decimal ."


def require_decimal(decimal: str) -> str:
    """Return a decimal sign ("": nobody named it), or refuse what is none."""
    if decimal not in ("", ".", ","):
        raise InputError("decimal", decimal, "is no decimal sign: give , or .")
    return decimal


def plain_numbers(
    rows: pl.DataFrame, columns: Sequence[str], *, delimiter: str = ",", decimal: str = ""
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the rows with a decimal point in the numbers of some columns, and a note if it was a comma.

    Parameters
    ----------
    delimiter
        That of the file: a comma says that the decimal sign is a point.
    decimal
        The decimal sign, or "" if nobody named it.

    Raises
    ------
    InputError
        When a number may be read in two ways; the first is named with its line.
    """
    present = [name for name in columns if name in rows.columns]
    numbers = _odd_numbers(rows, present)
    if numbers.is_empty():
        return rows, ()
    if not decimal and _decimal_of(numbers, delimiter) == ".":
        return rows, ()  # a wrong one among them is a wrong row
    decimal = decimal or ","
    grouping = "," if decimal == "." else "."
    wrong = numbers.filter(~pl.col("text").str.contains(_form(decimal, grouping)))
    if wrong.height:
        _refuse(wrong, f"is no number with the decimal sign {decimal}: write it with one, like 4{decimal}5")
    text = pl.col(present).str.replace_all(grouping, "", literal=True).str.replace(",", ".", literal=True)
    plain = pl.when(pl.col(present).str.contains(_NUMERIC)).then(text).otherwise(pl.col(present))
    seen = numbers.row(0, named=True)
    return rows.with_columns(plain), (f"{decimal!r} was read as the decimal sign of numbers such as {seen['text']}",)


def _odd_numbers(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return the numbers with a point or a comma: `column`, `text`, LINE and PLACE, in the order of the rows."""
    parts = [
        rows.select(pl.lit(name).alias("column"), pl.col(name).str.strip_chars().alias("text"), LINE, PLACE).filter(
            pl.col("text").str.contains(r"[.,]"), pl.col("text").str.contains(_NUMERIC)
        )
        for name in columns
    ]
    return pl.concat(parts) if parts else pl.DataFrame()


def _decimal_of(numbers: pl.DataFrame, delimiter: str) -> str:
    """Return the decimal sign that a file's numbers can only have, or refuse them."""
    commas, points = (numbers.filter(pl.col("text").str.contains(sign, literal=True)) for sign in ",.")
    if commas.is_empty():
        grouped = points["text"].str.contains(_GROUPED.format(r"\."))
        if delimiter in (";", "\t") and grouped.all():
            _refuse(points, f"may be a fraction or thousands: {_REMEDY}")
        return "."
    grouped = commas["text"].str.contains(_GROUPED.format(","))
    if grouped.all() or points.height:
        _refuse(commas, f"may be a fraction or thousands: {_REMEDY}")
    return ","


def _form(decimal: str, grouping: str) -> str:
    """Return what a number with that decimal sign looks like."""
    point, group = rf"\{decimal}", rf"\{grouping}"
    return rf"^[+-]?(\d+|\d{{1,3}}({group}\d{{3}})+)?({point}\d*)?$"


def _refuse(numbers: pl.DataFrame, remedy: str) -> None:
    """Refuse the first of some numbers."""
    row = numbers.sort(LINE).row(0, named=True)
    raise InputError(row["column"], row["text"], f"{remedy} ({row[PLACE]} line {row[LINE]})")
