"""Checks rows of text, all at once: which are correct, and which field of each wrong one breaks which rule.

A table is a list of fields; a field is a way to read its text and the rules that it must keep. A row that breaks
several rules is reported with the first of them, in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from gangplan.clock import NO_TIME, NOT_UTC
from gangplan.tables import UTC_TIME
from gangplan.telemetry.values import REJECTED_KEPT, BadRow
from gangplan.types import NAME, NO_NAME

LINE, PLACE, FAULT = "_line", "_place", "_fault"
"""Columns that a reader adds: the row's line and file, and what is wrong with the row as a whole (null: nothing)."""

_READ = "._read"
"""The ending of the column that holds the value of a field; the field's own column holds its text."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MOST_GPUS = 1_000_000.0

_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?\s?(Z|[+-]\d{2}:?\d{2})?$"
_UTC = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]00:?00)$"


@dataclass(frozen=True)
class Rule:
    """A field, the expression that is true where its value is wrong, and the remedy."""

    field: str
    bad: pl.Expr
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column: how its text is read, the rules for it, and whether a file may lack it."""

    name: str
    value: pl.Expr
    rules: tuple[Rule, ...]
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The values of the correct rows, the first 20 wrong rows, and the number of wrong rows."""

    frame: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0


def check(
    rows: pl.DataFrame, fields: Sequence[Field], relations: Sequence[Rule] = (), unique: Sequence[str] = ()
) -> Checked:
    """Return the values of the rows that keep all rules, and name those that do not.

    Parameters
    ----------
    rows
        Text, with the columns LINE, PLACE and FAULT.
    relations
        Rules over several fields.
    unique
        Fields in which no two rows may agree; of those that do, the first row is kept.
    """
    no_row = Rule("row", pl.col(FAULT).is_not_null(), "is no row of this table")
    rules: list[Rule] = [no_row, *(rule for field in fields for rule in field.rules), *relations]
    first = pl.coalesce(pl.when(rule.bad).then(pl.lit(index)) for index, rule in enumerate(rules))
    read = _trimmed(rows, fields).with_columns(field.value.alias(f"{field.name}{_READ}") for field in fields)
    judged = read.with_columns(first.alias("_rule"))
    values = [value_of(field.name).alias(field.name) for field in fields]
    correct = judged.filter(pl.col("_rule").is_null()).select(PLACE, LINE, *values)
    kept, repeated = _first_of(correct, unique)
    wrong = [*_broken(judged.filter(pl.col("_rule").is_not_null()), rules), *_repeated(repeated, unique)]
    return Checked(
        frame=kept.drop(PLACE, LINE), rejected=tuple(wrong[:REJECTED_KEPT]), rejected_count=judged.height - kept.height
    )


def name(field: str, *, optional: bool = False) -> Field:
    """Return a field that holds a plain name, by the ledger's rules for names."""
    return _text_field(field, optional, Rule(field, _given(field) & ~pl.col(field).str.contains(f"^{NAME}$"), NO_NAME))


def text(field: str, *, optional: bool = False) -> Field:
    """Return a field that holds any text."""
    return _text_field(field, optional)


def one_of(field: str, values: Sequence[str], *, optional: bool = False) -> Field:
    """Return a field that holds one of a few words."""
    unknown = _given(field) & ~pl.col(field).is_in(values)
    return _text_field(field, optional, Rule(field, unknown, f"is unknown: use one of {', '.join(values)}"))


def number(
    field: str, *, least: float = 0.0, most: float = MOST_GPUS, above: bool = False, optional: bool = False
) -> Field:
    """Return a field that holds a finite number from `least` (more than `least` if `above`) to `most`."""
    value = value_of(field)
    infinite = _given(field) & ~value.is_finite().fill_null(value=False)
    low = value <= least if above else value < least
    rules = (
        *_required(field, optional),
        Rule(field, infinite, "is not a finite number: give a plain one, like 8"),
        Rule(field, low, f"must be {'greater than' if above else 'at least'} {least:g}"),
        Rule(field, value > most, f"must be at most {most:g}"),
    )
    read = pl.col(field).cast(pl.Float64, strict=False)
    return Field(name=field, value=read, rules=rules, optional=optional)


def moment(field: str, now: datetime, *, optional: bool = False, ahead: bool = False) -> Field:
    """Return a field that holds a UTC time, not before 2000 and, unless `ahead` allows it, not after `now`."""
    value, written, given = value_of(field), pl.col(field).str, _given(field)
    rules = [
        *_required(field, optional),
        Rule(field, given & ~written.contains(_ISO), NO_TIME),
        Rule(field, given & ~written.contains(_UTC), NOT_UTC),
        Rule(field, given & value.is_null(), "is no day or hour that there is: give it like 2026-03-01T12:00:00Z"),
        Rule(field, value < EARLIEST, "lies before 2000: give the year with four digits"),
    ]
    if not ahead:
        rules.append(Rule(field, value > now, "lies in the future: leave it empty until it has come"))
    return Field(name=field, value=_time(field), rules=tuple(rules), optional=optional)


def not_before(field: str, earlier: str) -> Rule:
    """Return the rule that a time must not be before another one."""
    return Rule(field, value_of(field) < value_of(earlier), f"must not be before {earlier}")


def value_of(field: str) -> pl.Expr:
    """Return the value that was read from a field's text, for rules."""
    return pl.col(f"{field}{_READ}")


def _text_field(field: str, optional: bool, *rules: Rule) -> Field:
    """Return a field whose value is its text."""
    return Field(name=field, value=pl.col(field), rules=(*_required(field, optional), *rules), optional=optional)


def _time(field: str) -> pl.Expr:
    """Read ISO 8601 text in UTC as a time; any other text becomes null."""
    plain = pl.col(field).str.replace(r"(Z|[+-]00:?00)$", "").str.replace(" ", "T", literal=True)
    full = pl.when(plain.str.len_chars() == len("2026-03-01T12:00")).then(plain + ":00").otherwise(plain)
    read = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    return read.dt.replace_time_zone("UTC").cast(UTC_TIME)


def _trimmed(rows: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """Return the rows with trimmed text in every field; empty text and missing columns become null."""
    missing = [field.name for field in fields if field.name not in rows.columns]
    full = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    text = pl.col([field.name for field in fields]).str.strip_chars()
    return full.with_columns(pl.when(text != "").then(text))


def _given(field: str) -> pl.Expr:
    """Return whether the field holds any text."""
    return pl.col(field).is_not_null()


def _required(field: str, optional: bool) -> tuple[Rule, ...]:
    """Return the rule that the field is not empty, unless it may be."""
    return () if optional else (Rule(field, ~_given(field), "is empty: it must be given"),)


def _first_of(rows: pl.DataFrame, unique: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first of the rows that agree in `unique`, and the others."""
    if not unique:
        return rows, rows.clear()
    first = pl.struct(unique).is_first_distinct()
    return rows.filter(first), rows.filter(~first)


def _broken(rows: pl.DataFrame, rules: Sequence[Rule]) -> list[BadRow]:
    """Name the first rows that broke a rule."""
    broken: list[BadRow] = []
    for row in rows.head(REJECTED_KEPT).iter_rows(named=True):
        rule = rules[int(row["_rule"])]
        value = row[FAULT if rule.field == "row" else rule.field] or ""
        broken.append(BadRow(place=row[PLACE], line=row[LINE], field=rule.field, value=value, remedy=rule.remedy))
    return broken


def _repeated(rows: pl.DataFrame, unique: Sequence[str]) -> list[BadRow]:
    """Name the first rows that repeat another row."""
    return [
        BadRow(
            place=row[PLACE],
            line=row[LINE],
            field=", ".join(unique),
            value=", ".join(str(row[name]) for name in unique),
            remedy="stands twice: the first row was kept",
        )
        for row in rows.head(REJECTED_KEPT).iter_rows(named=True)
    ]
