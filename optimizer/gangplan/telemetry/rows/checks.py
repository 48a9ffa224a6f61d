"""Checks rows of text, all at once: which are correct, and which field of each wrong one breaks which rule.

A table is a list of fields; a field is a way to read its text and the rules that it must keep. A row that breaks
several rules is reported with the first of them, in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import polars as pl

from gangplan.telemetry.rows.delimited import FAULT, LINE, PLACE
from gangplan.telemetry.rows.times import (
    READ,
    TIME_FAULTS,
    Moments,
    fault_of,
    read_times,
    value_of,
)
from gangplan.telemetry.values import REJECTED_KEPT, BadRow
from gangplan.types import NAME, NO_NAME

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
MOST_GPUS = 1_000_000.0


class Kind(StrEnum):
    """What a text is read as."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


@dataclass(frozen=True)
class Rule:
    """A field, the expression that is true where its value is wrong, and the remedy."""

    field: str
    bad: pl.Expr
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column: what its text is read as, the rules for it, whether a file may lack it, which times lie before it."""

    name: str
    rules: tuple[Rule, ...]
    kind: Kind = Kind.TEXT
    optional: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The values of the correct rows, the first 20 wrong rows, the number of wrong rows, and notes on the reading."""

    frame: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0
    notes: tuple[str, ...] = ()


def read(
    rows: pl.DataFrame, fields: Sequence[Field], zone: str = "", unique: Sequence[str] = ()
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return rows of text with the values that are read from them beside it, and notes on how times were read.

    `zone` is the time zone of times that do not say their offset; `unique` as for `judge`.
    """
    text = _trimmed(rows, fields)
    values = text.with_columns(_value(field) for field in fields if field.kind is not Kind.TIME)
    clocks = [
        Moments(
            field.name,
            field.after,
            tuple(name for name in unique if name != field.name) if field.name in unique else None,
        )
        for field in fields
        if field.kind is Kind.TIME
    ]
    return read_times(values, clocks, zone)


def check(
    rows: pl.DataFrame,
    fields: Sequence[Field],
    relations: Sequence[Rule] = (),
    unique: Sequence[str] = (),
    zone: str = "",
) -> Checked:
    """Return the values of the rows of text that keep all rules, and name those that do not; see `read` and `judge`."""
    values, notes = read(rows, fields, zone, unique)
    return replace(judge(values, fields, relations, unique), notes=notes)


def judge(
    rows: pl.DataFrame, fields: Sequence[Field], relations: Sequence[Rule] = (), unique: Sequence[str] = ()
) -> Checked:
    """Return the values of the rows that keep all rules, and name those that do not.

    Parameters
    ----------
    rows
        What `read` returns.
    relations
        Rules over several fields.
    unique
        Fields in which no two rows may agree; of those that do, the first row is kept.
    """
    no_row = Rule("row", pl.col(FAULT).is_not_null(), "is no row of this table")
    rules: list[Rule] = [no_row, *(rule for field in fields for rule in field.rules), *relations]
    first = pl.coalesce(pl.when(rule.bad).then(pl.lit(index, pl.Int16)) for index, rule in enumerate(rules))
    judged = rows.with_columns(first.alias("_rule"))
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
    return Field(name=field, rules=rules, kind=Kind.NUMBER, optional=optional)


def moment(
    field: str, now: datetime, *, optional: bool = False, ahead: bool = False, after: tuple[str, ...] = ()
) -> Field:
    """Return a field that holds an instant, not before 2000 and, unless `ahead` allows it, not after `now`."""
    value = value_of(field)
    rules = [
        *_required(field, optional),
        *(Rule(field, fault_of(field) == fault.value, remedy) for fault, remedy in TIME_FAULTS.items()),
        Rule(field, value < EARLIEST, "lies before 2000: give the year with four digits"),
    ]
    if not ahead:
        rules.append(Rule(field, value > now, "lies in the future: leave it empty until it has come"))
    return Field(name=field, rules=tuple(rules), kind=Kind.TIME, optional=optional, after=after)


def not_before(field: str, earlier: str) -> Rule:
    """Return the rule that a time must not be before another one."""
    return Rule(field, value_of(field) < value_of(earlier), f"must not be before {earlier}")


def _text_field(field: str, optional: bool, *rules: Rule) -> Field:
    """Return a field whose value is its text."""
    return Field(name=field, rules=(*_required(field, optional), *rules), optional=optional)


def _value(field: Field) -> pl.Expr:
    """Return the value of a text that is no time; null if it cannot be read."""
    text = pl.col(field.name)
    number = text.cast(pl.Float64, strict=False)
    return (text if field.kind is Kind.TEXT else number).alias(f"{field.name}{READ}")


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
