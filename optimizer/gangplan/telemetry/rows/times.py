"""Reads texts as instants: with an offset they are exact, without one they need the zone that they were written in.

A zone that changes its clocks has one hour a year that does not exist, and one that stands twice. A time in the first
is a wrong row. One in the second is read as the earlier of its two instants, or as the later one where the earlier
would lie before what must come before it, or where the clock of a series of samples went back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from gangplan.clock import NO_TIME
from gangplan.errors import InputError
from gangplan.tables import UTC_TIME
from gangplan.telemetry.rows.delimited import LINE

READ = "._read"
"""The ending of the column that holds the value of a field; the field's own column holds its text."""

_WHY = "._why"
"""The ending of the column that says why a time could not be read."""

_OFFSET = r"[Zz]|UTC|GMT|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?"
_PARTS = rf"^(\d{{4}}-\d{{2}}-\d{{2}})[Tt ](\d{{2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d{{1,9}})?)?)\s?({_OFFSET})?$"
_PLAIN = len("2026-03-01T12:00:00")
_LINES_NAMED = 3

Ambiguous = Literal["earliest", "latest"]


class TimeFault(StrEnum):
    """Why a text is no instant."""

    FORM = "form"
    DAY = "day"
    ZONE = "zone"
    GAP = "gap"


TIME_FAULTS = {
    TimeFault.FORM: NO_TIME,
    TimeFault.DAY: "is no day or hour that there is: give it like 2026-03-01T12:00:00Z",
    TimeFault.ZONE: "has no time zone: give its offset, like 2026-03-01T12:00:00+01:00, or the zone that it was "
    "written in, like --zone Europe/Berlin",
    TimeFault.GAP: "is an hour that the clocks of its time zone left out: give the time with its offset",
}
"""What is said about each fault."""


@dataclass(frozen=True)
class Moments:
    """A column of times, the columns whose times lie before it, and those of which each series is in order of time."""

    name: str
    after: tuple[str, ...] = ()
    series: tuple[str, ...] | None = None


def value_of(field: str) -> pl.Expr:
    """Return the value that was read from a field's text, for rules."""
    return pl.col(f"{field}{READ}")


def fault_of(field: str) -> pl.Expr:
    """Return why a field's text is no instant (a `TimeFault`); null where it is one, or is empty."""
    return pl.col(f"{field}{_WHY}")


def require_zone(zone: str) -> str:
    """Return the name of a time zone, or refuse one that is not known."""
    try:
        ZoneInfo(zone or "UTC")
    except (ValueError, OSError, LookupError):
        remedy = "is no time zone: give one like Europe/Berlin, America/New_York or UTC"
        raise InputError("zone", zone, remedy) from None
    return zone


def read_times(rows: pl.DataFrame, columns: Sequence[Moments], zone: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the rows with the instants of some columns (READ), why others are none, and notes on how they were read.

    `zone` is the time zone of times that do not say their offset; "" if none was named.
    """
    notes: list[str] = []
    local_times = 0
    for column in columns:
        parts = _parts(rows[column.name])
        local = parts["minutes"].is_null() & parts["local"].is_not_null()
        parts = _placed(parts, zone, local.any())
        twice = rows.select(LINE).with_columns(parts).filter(pl.col("late") != pl.col("early"))
        read, why = pl.col("early").alias(f"{column.name}{READ}"), pl.col("why").alias(f"{column.name}{_WHY}")
        rows = pl.concat([rows, parts.select(read, why, "late")], how="horizontal")
        if twice.height:
            rows = rows.with_columns(_again(rows, column)).with_columns(_in_order(column)).drop("_again")
            notes.append(_told(column.name, twice[LINE], zone))
        rows = rows.drop("late")
        local_times += int(local.sum()) if zone else 0
    if local_times and zone != "UTC":
        notes.insert(0, f"{local_times:,} times without an offset were read as times of {zone}")
    return rows, tuple(notes)


def _parts(text: pl.Series) -> pl.DataFrame:
    """Return what each text says: `local` time, `minutes` of its offset (null: none), `why` it is no time."""
    none = {"minutes": pl.lit(None, pl.Int64), "why": pl.lit(None, pl.String)}
    lengths = text.str.len_bytes()
    if lengths.min() == lengths.max() == _PLAIN:  # the form of Slurm, read ten times as fast
        local = _as_time(text.str.replace(" ", "T", literal=True), "%Y-%m-%dT%H:%M:%S")
        if local.null_count() == text.null_count():
            return pl.DataFrame({"local": local}).with_columns(**none)
    return (
        text.to_frame("text")
        .select(
            local=_local(pl.col("text").str.extract_groups(_PARTS)),
            minutes=_minutes(pl.col("text").str.extract(_PARTS, 3)),
            why=pl.when(pl.col("text").is_not_null() & ~pl.col("text").str.contains(_PARTS)).then(
                pl.lit(TimeFault.FORM.value)
            ),
            given=pl.col("text").is_not_null(),
        )
        .select(
            "local",
            "minutes",
            pl.when("given")
            .then(pl.coalesce("why", pl.when(pl.col("local").is_null()).then(pl.lit(TimeFault.DAY.value))))
            .alias("why"),
        )
    )


def _local(parts: pl.Expr) -> pl.Expr:
    """Return the day and the time of day as one time."""
    clock = parts.struct.field("2").str.replace(",", ".", literal=True)
    full = pl.when(clock.str.len_bytes() == len("12:00")).then(clock + ":00").otherwise(clock)
    text = parts.struct.field("1") + "T" + full
    return text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)


def _as_time(text: pl.Series, form: str) -> pl.Series:
    """Read texts of one form as times; null where one is of another."""
    return text.str.to_datetime(form, time_unit="us", strict=False)


def _minutes(offset: pl.Expr) -> pl.Expr:
    """Return the minutes of an offset such as +01:00, -0530, +08 or Z."""
    digits = offset.str.slice(1).str.replace(":", "", literal=True)
    hours, minutes = (
        digits.str.slice(0, 2).cast(pl.Int64, strict=False),
        digits.str.slice(2).cast(pl.Int64, strict=False),
    )
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    numeric = offset.str.contains(r"^[+-]")
    return pl.when(numeric).then(sign * (hours * 60 + minutes.fill_null(0))).when(offset.is_not_null()).then(0)


def _placed(parts: pl.DataFrame, zone: str, local: bool) -> pl.DataFrame:
    """Return the earlier and the later instant (`early`, `late`), which differ in an hour that stands twice."""
    exact = (pl.col("local") - pl.duration(minutes=pl.col("minutes"))).dt.replace_time_zone("UTC")
    if not local:
        return parts.select(early=exact.cast(UTC_TIME), late=exact.cast(UTC_TIME), why="why")
    if not zone:
        missing = pl.when(pl.col("minutes").is_null() & pl.col("local").is_not_null()).then(
            pl.lit(TimeFault.ZONE.value)
        )
        return parts.select(early=exact.cast(UTC_TIME), late=exact.cast(UTC_TIME), why=pl.coalesce("why", missing))
    early, late = (pl.coalesce(exact, _in_zone(zone, which)).cast(UTC_TIME) for which in ("earliest", "latest"))
    placed = parts.with_columns(early=early, late=late)
    gap = pl.when(pl.col("local").is_not_null() & pl.col("early").is_null()).then(pl.lit(TimeFault.GAP.value))
    return placed.select("early", "late", why=pl.coalesce("why", gap))


def _in_zone(zone: str, which: Ambiguous) -> pl.Expr:
    """Return a local time of a zone as an instant."""
    local = pl.col("local").dt.replace_time_zone(zone, ambiguous=which, non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _again(rows: pl.DataFrame, column: Moments) -> pl.Series:
    """Return where the hour that stands twice has begun again: the clock of a series went back, or stood still."""
    none = pl.Series("_again", [False] * rows.height)
    early = value_of(column.name)
    known = rows.select(early, "late", *(column.series or ())).with_row_index("_row").drop_nulls(f"{column.name}{READ}")
    if column.series is None or known.is_empty():
        return none
    if known[f"{column.name}{READ}"][0] > known[f"{column.name}{READ}"][-1]:  # the newest first
        known = known.reverse()
    twice = known.filter(pl.col("late") != early)
    highest = early.cum_max().shift(1)
    again = twice.filter((early <= (highest.over(column.series) if column.series else highest)).fill_null(value=False))
    return none.scatter(again["_row"], True) if again.height else none


def _in_order(column: Moments) -> pl.Expr:
    """Return the earlier instant, or the later one where the earlier lies before what must come before it."""
    early = value_of(column.name)
    before = pl.any_horizontal("_again", *(early < value_of(name) for name in column.after))
    return pl.when(before.fill_null(value=False)).then("late").otherwise(early).alias(f"{column.name}{READ}")


def _told(column: str, lines: pl.Series, zone: str) -> str:
    """Say which times stand twice, and how they were read."""
    named = ", ".join(str(line) for line in lines.head(_LINES_NAMED)) + (", ..." if len(lines) > _LINES_NAMED else "")
    how = "read as the first, or as the second where the first would be out of order"
    return f"{len(lines):,} times of {column} (line {named}) are an hour that {zone} has twice: {how}"
