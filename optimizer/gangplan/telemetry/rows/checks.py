"""Checks rows of text, all at once: which are sound, and of each bad one which field is wrong and what to do.

A table is a list of fields, a field a way to read its text and the rules that it has to keep. The first rule that a
row breaks, in the order of the fields, is the one that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from gangplan.tables import UTC_TIME
from gangplan.telemetry.values import REJECTED_KEPT, BadRow

LINE, PLACE, FAULT = "_line", "_place", "_fault"
"""Columns that a reader adds: where the row stands, and what is wrong with the row as a whole (null: nothing)."""

_READ = "._read"  # beside the text of a field stands what was read from it

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MOST_GPUS = 1_000_000.0

_EXAMPLE = "2026-03-01T12:00:00Z"
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?\s?(Z|[+-]\d{2}:?\d{2})?$"
_UTC = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]00:?00)$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What makes a field's value bad, and the remedy."""

    field: str
    bad: pl.Expr
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column: how its text is read, what it has to keep, and whether a file may lack it."""

    name: str
    value: pl.Expr
    rules: tuple[Rule, ...]
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The sound rows, read, and the bad ones: the first 20 by name, all by count."""

    frame: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0


def check(
    rows: pl.DataFrame, fields: Sequence[Field], relations: Sequence[Rule] = (), unique: Sequence[str] = ()
) -> Checked:
    """Return the rows that keep every rule, as values, and those that do not.

    `rows` are text with the columns LINE, PLACE and FAULT; `relations` are rules over several fields; of rows that
    agree in `unique` the first stays.
    """
    whole = Rule(field="row", bad=pl.col(FAULT).is_not_null(), remedy="is no row of this table")
    rules: list[Rule] = [whole, *(rule for field in fields for rule in field.rules), *relations]
    first = pl.coalesce(pl.when(rule.bad).then(pl.lit(index)) for index, rule in enumerate(rules))
    read = _trimmed(rows, fields).with_columns(field.value.alias(f"{field.name}{_READ}") for field in fields)
    judged = read.with_columns(first.alias("_rule"))
    values = [value_of(field.name).alias(field.name) for field in fields]
    sound = judged.filter(pl.col("_rule").is_null()).select(PLACE, LINE, *values)
    kept, twice = _first_of(sound, unique)
    bad = [*_broken(judged.filter(pl.col("_rule").is_not_null()), rules), *_repeated(twice, unique)]
    return Checked(
        frame=kept.drop(PLACE, LINE), rejected=tuple(bad[:REJECTED_KEPT]), rejected_count=judged.height - kept.height
    )


def name(field: str, *, optional: bool = False) -> Field:
    """A plain name, as the ledger takes it too."""
    bad = _given(field) & ~pl.col(field).str.contains(_NAME)
    rule = Rule(field=field, bad=bad, remedy="is not a name: use 1 to 63 letters, digits, '.', '_' or '-'")
    return Field(name=field, value=pl.col(field), rules=(*_required(field, optional), rule), optional=optional)


def text(field: str, *, optional: bool = False) -> Field:
    """Any text."""
    return Field(name=field, value=pl.col(field), rules=_required(field, optional), optional=optional)


def one_of(field: str, values: Sequence[str]) -> Field:
    """One of a few words."""
    rule = Rule(
        field=field,
        bad=_given(field) & ~pl.col(field).is_in(values),
        remedy=f"is unknown: use one of {', '.join(values)}",
    )
    return Field(name=field, value=pl.col(field), rules=(*_required(field, optional=False), rule))


def number(
    field: str, *, least: float = 0.0, most: float = MOST_GPUS, above: bool = False, optional: bool = False
) -> Field:
    """A finite number from `least` (not `least` itself if `above`) to `most`."""
    value = value_of(field)
    low = value <= least if above else value < least
    rules = (
        *_required(field, optional),
        Rule(
            field=field,
            bad=_given(field) & ~value.is_finite().fill_null(value=False),
            remedy="is not a finite number: give a plain one, like 8",
        ),
        Rule(field=field, bad=low, remedy=f"must be {'greater than' if above else 'at least'} {least:g}"),
        Rule(field=field, bad=value > most, remedy=f"must be at most {most:g}"),
    )
    read = pl.col(field).cast(pl.Float64, strict=False)
    return Field(name=field, value=read, rules=rules, optional=optional)


def moment(field: str, now: datetime, *, optional: bool = False, ahead: bool = False) -> Field:
    """A UTC time, not before 2000 and, unless it may lie `ahead`, not after `now`."""
    value = value_of(field)
    rules = [
        *_required(field, optional),
        Rule(
            field=field,
            bad=_given(field) & ~pl.col(field).str.contains(_ISO),
            remedy=f"is not an ISO 8601 time: give it like {_EXAMPLE}",
        ),
        Rule(
            field=field,
            bad=_given(field) & ~pl.col(field).str.contains(_UTC),
            remedy=f"is not a UTC time: give it with Z or +00:00, like {_EXAMPLE}",
        ),
        Rule(
            field=field,
            bad=_given(field) & value.is_null(),
            remedy=f"is no day or hour that there is: give it like {_EXAMPLE}",
        ),
        Rule(field=field, bad=value < EARLIEST, remedy="lies before 2000: give the year with four digits"),
    ]
    if not ahead:
        rules.append(Rule(field=field, bad=value > now, remedy="lies in the future: leave it empty until it has come"))
    return Field(name=field, value=_time(field), rules=tuple(rules), optional=optional)


def not_before(field: str, earlier: str) -> Rule:
    """A time that must not come before another one."""
    return Rule(field=field, bad=value_of(field) < value_of(earlier), remedy=f"must not be before {earlier}")


def _time(field: str) -> pl.Expr:
    """Read ISO 8601 text in UTC as a time; what is not one becomes null."""
    plain = pl.col(field).str.replace(r"(Z|[+-]00:?00)$", "").str.replace(" ", "T", literal=True)
    full = pl.when(plain.str.len_chars() == len("2026-03-01T12:00")).then(plain + ":00").otherwise(plain)
    read = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    return read.dt.replace_time_zone("UTC").cast(UTC_TIME)


def value_of(field: str) -> pl.Expr:
    """Return a field's value as it was read from its text, for rules."""
    return pl.col(f"{field}{_READ}")


def _trimmed(rows: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """Return the rows with trimmed text in every field; what is empty, or a column that is not there, is null."""
    missing = [field.name for field in fields if field.name not in rows.columns]
    full = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    text = pl.col([field.name for field in fields]).str.strip_chars()
    return full.with_columns(pl.when(text != "").then(text))


def _given(field: str) -> pl.Expr:
    """Whether anything stands in the field."""
    return pl.col(field).is_not_null()


def _required(field: str, optional: bool) -> tuple[Rule, ...]:
    """Return the rule that the field is not empty, unless it may be."""
    return () if optional else (Rule(field=field, bad=~_given(field), remedy="is empty: it must be given"),)


def _first_of(rows: pl.DataFrame, unique: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first of rows that agree in `unique`, and the others."""
    if not unique:
        return rows, rows.clear()
    first = pl.struct(unique).is_first_distinct()
    return rows.filter(first), rows.filter(~first)


def _broken(rows: pl.DataFrame, rules: Sequence[Rule]) -> list[BadRow]:
    """Name the first rows that broke a rule."""
    first = list(rows.head(REJECTED_KEPT).iter_rows(named=True))
    return [_named(row, rules[int(row["_rule"])]) for row in first]


def _named(row: dict[str, Any], rule: Rule) -> BadRow:
    """Name one row and the rule that it broke."""
    value = row[FAULT if rule.field == "row" else rule.field]
    return BadRow(place=row[PLACE], line=row[LINE], field=rule.field, value=value or "", remedy=rule.remedy)


def _repeated(rows: pl.DataFrame, unique: Sequence[str]) -> list[BadRow]:
    """Name the first rows that say again what another row said."""
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
