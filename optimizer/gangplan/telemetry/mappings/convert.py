"""Rows of another's table -> text rows of gangplan's, by a mapping.

What cannot be computed stays as it was written, so that the checks name it as it stands in the file.
"""

from __future__ import annotations

import re
from datetime import datetime

import polars as pl

from gangplan.errors import InputError
from gangplan.kube import short_name
from gangplan.telemetry.mappings.mapping import ISO, SLURM, UNITS, Column, LeftOut, Mapping
from gangplan.telemetry.mappings.prepared import Prepared, rows_of
from gangplan.telemetry.rows import (
    FAULT,
    LINE,
    PLACE,
    READ,
    Moments,
    OpenTable,
    TableRows,
    plain_numbers,
    read_times,
)
from gangplan.types import ANY

_KEEP = (LINE, PLACE, FAULT)
_WITHOUT_NAME = r"[^A-Za-z0-9._-]+"
_EPOCH = r"^\d{9,11}$"
_ISO = "%Y-%m-%dT%H:%M:%S%.6f"
_SHOWN = 3
_MOST_SECONDS = 1e11
"""Three thousand years: what lies farther off is no time."""


class OfNoUse(InputError):
    """A file is a known one that says nothing about demand; beside others it is left out."""


def convert(mapping: Mapping, table: OpenTable, *, zone: str = "", decimal: str = "") -> TableRows:
    """Return the rows of a file as those of the mapping's table; `zone` and `decimal` win over the mapping's.

    Raises
    ------
    InputError
        When the file lacks a column that the mapping needs.
    """
    _refuse(mapping, table)
    raw = _plain(table.read(_needed(mapping, table)), mapping)
    zone = zone or mapping.zone
    told = raw.select(LINE, *(_column(mapping, name, table).alias(name) for name in _times(mapping, table)))
    kept = _left_out(raw, mapping.leave_out)
    del raw
    prepared = mapping.preparation.run(kept.frame) if mapping.preparation else Prepared(frame=kept.frame)
    numeric = [name for name in _number_columns(mapping) if name in prepared.frame.columns]
    frame, decimals = plain_numbers(
        prepared.frame, numeric, delimiter=table.delimiter, decimal=decimal or mapping.decimal
    )
    added = {mapping.column(name).plus for name in mapping.columns} - {""}
    ours = frame.select(*_KEEP, *added, *(_column(mapping, name, table).alias(name) for name in mapping.columns))
    ours = _with_durations(ours, mapping, zone).drop(added)
    asking = _asking(ours) if mapping.table == "jobs" else Prepared(frame=ours)
    named = _named(asking.frame, mapping)
    skipped = kept.skipped + prepared.skipped + asking.skipped
    return TableRows(
        table=mapping.table,
        frame=named.frame,
        names={name: mapping.column(name).label or name for name in mapping.columns},
        zone=zone,
        counted_by=mapping.step,
        relative=mapping.relative,
        span=mapping.span,
        last=_last(told.join(named.frame.select(LINE), on=LINE, how="anti"), zone) if skipped else None,
        skipped=skipped,
        notes=(*kept.notes, *prepared.notes, *decimals, *asking.notes, *named.notes),
    )


def _refuse(mapping: Mapping, table: OpenTable) -> None:
    """Refuse a file that is of no use, or lacks a column that the mapping needs."""
    if mapping.refuse:
        raise OfNoUse("source", table.path, mapping.refuse)
    missing = mapping.missing_from(table.columns)
    if missing:
        there = ", ".join(table.columns)
        what = f"{mapping.about or 'the mapping'} has that column, and this file has {there}"
        raise InputError(", ".join(missing), table.path, f"lacks that column: {what} (docs/telemetry.md)")


def _plain(rows: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Return rows without blanks around their texts; words that mean nothing are empty."""
    words = pl.col([name for name in rows.columns if name not in _KEEP]).str.strip_chars()
    return rows.with_columns(pl.when(~words.is_in(list(mapping.empty))).then(words) if mapping.empty else words)


def _times(mapping: Mapping, table: OpenTable) -> list[str]:
    """Return our columns of times that the file tells itself."""
    there = set(table.columns)
    return [name for name in mapping.columns if name in mapping.moments and there & set(mapping.column(name).sources)]


def _last(unused: pl.DataFrame, zone: str) -> datetime | None:
    """Return the last time of rows that are left out: the file tells of the others up to then too."""
    times = [name for name in unused.columns if name != LINE]
    moments, _ = read_times(unused, [Moments(name) for name in times], zone)
    latest = [moments[f"{name}{READ}"].max() for name in times]
    return max((moment for moment in latest if isinstance(moment, datetime)), default=None)


def _needed(mapping: Mapping, table: OpenTable) -> list[str]:
    """Return the columns that a mapping reads of a file, in the file's order."""
    columns = [mapping.column(name) for name in mapping.columns]
    names = {name for each in columns for name in (*each.sources, *each.beside)}
    names |= {name for rule in mapping.leave_out for name in rule.where} | set(mapping.recognised_by)
    names |= set(mapping.preparation.reads if mapping.preparation else ())
    return [name for name in table.columns if name in names]


def _number_columns(mapping: Mapping) -> list[str]:
    """Return the columns of the file that hold numbers, which may have a decimal comma."""
    columns = [mapping.column(name) for name in mapping.columns if name in mapping.numbers]
    return list(dict.fromkeys(name for each in columns for name in (*each.sources, *each.beside)))


def _left_out(rows: pl.DataFrame, rules: tuple[LeftOut, ...]) -> Prepared:
    """Leave out the rows that the mapping's rules name."""
    notes: list[str] = []
    skipped = 0
    for rule in rules:
        matches = [pl.col(name).fill_null("").is_in(list(words)) for name, words in rule.where.items()]
        left = rows.filter(~pl.all_horizontal(matches) | pl.col(FAULT).is_not_null())
        if gone := rows.height - left.height:
            notes.append(f"{rows_of(gone)} left out: {rule.because}")
        rows, skipped = left, skipped + gone
    return Prepared(frame=rows, notes=tuple(notes), skipped=skipped)


def _asking(jobs: pl.DataFrame) -> Prepared:
    """Leave out the jobs that ask for no GPU."""
    none = (pl.col("gpus").cast(pl.Float64, strict=False) == 0).fill_null(value=False)
    left = jobs.filter(~none)
    gone = jobs.height - left.height
    notes = (f"{rows_of(gone)} left out: jobs without GPUs",) if gone else ()
    return Prepared(frame=left, notes=notes, skipped=gone)


def _column(mapping: Mapping, name: str, table: OpenTable) -> pl.Expr:
    """Return one of gangplan's columns as text."""
    said = mapping.column(name)
    if said.constant is not None:
        return pl.lit(str(said.constant))
    if said.file:
        return pl.lit(re.sub(r"(\.[A-Za-z]+)+$", "", table.path.name))
    made = mapping.preparation.makes if mapping.preparation else ()
    there = [source for source in said.sources if source in (*table.columns, *made)]
    text = pl.coalesce(pl.when(pl.col(source) != "").then(pl.col(source)) for source in there)
    if said.joined_with:
        text = pl.concat_str(text, said.joined_with, separator="/", ignore_nulls=True)
    if said.pattern:
        text = text.str.extract(said.pattern, 1)
    if said.words:
        text = text.replace_strict(
            dict(said.words), default=text if said.otherwise is None else pl.lit(said.otherwise), return_dtype=pl.String
        )
    elif said.otherwise is not None:
        text = text.fill_null(said.otherwise)
    if name in mapping.moments:
        return _time(mapping, text)
    return _number(said, text)


def _number(said: Column, text: pl.Expr) -> pl.Expr:
    """Return a number multiplied and divided, as text."""
    if not said.multiplied_by and said.divided_by == 1.0:
        return text
    value = text.cast(pl.Float64, strict=False) / said.divided_by
    if said.multiplied_by:
        value = value * pl.col(said.multiplied_by).cast(pl.Float64, strict=False)
        text = pl.when(text.cast(pl.Float64, strict=False).is_null()).then(text).otherwise(pl.col(said.multiplied_by))
    return pl.coalesce(value.cast(pl.String), text)


def _time(mapping: Mapping, text: pl.Expr) -> pl.Expr:
    """Return a time as ISO 8601 text, from a number or a text of another form."""
    if mapping.times == ISO:
        return text
    if mapping.times == SLURM:
        return pl.when(text.str.contains(_EPOCH)).then(_moment(text, mapping.origin, 1.0)).otherwise(text)
    if mapping.times in UNITS:
        return pl.coalesce(_moment(text, mapping.origin, UNITS[mapping.times]), text)
    moment = text.str.to_datetime(mapping.times, time_unit="us", strict=False)
    return pl.coalesce(moment.dt.strftime(_ISO + ("Z" if "%z" in mapping.times else "")), text)


def _moment(text: pl.Expr, origin: datetime, unit: float) -> pl.Expr:
    """Return a number of units of `unit` seconds since `origin` as ISO 8601 text."""
    return (pl.lit(origin) + _span(text, unit)).dt.strftime(_ISO + "Z")


def _with_durations(frame: pl.DataFrame, mapping: Mapping, zone: str) -> pl.DataFrame:
    """Add the seconds of a duration to the times that have one: as instants, since a local day may have 25 hours.

    Without a duration there is no such time.
    """
    for name in mapping.columns:
        seconds = mapping.column(name).plus
        if not seconds:
            continue
        moments, _ = read_times(frame.select(LINE, name), [Moments(name)], zone)
        moment, given = moments[f"{name}{READ}"], pl.when(pl.col(seconds) != "").then(seconds)
        later = pl.coalesce((moment + _span(given, 1.0)).dt.strftime(_ISO + "Z"), given)
        frame = frame.with_columns(pl.when(moment.is_null()).then(name).otherwise(later).alias(name))
    return frame


def _span(number: pl.Expr, unit: float) -> pl.Expr:
    """Return a number of units of `unit` seconds as a duration; null where it is none, or longer than any may be."""
    seconds = number.cast(pl.Float64, strict=False) * unit
    possible = pl.when(seconds.abs() < _MOST_SECONDS).then(seconds)
    return pl.duration(microseconds=(possible * 1e6).round().cast(pl.Int64, strict=False))


def _named(rows: pl.DataFrame, mapping: Mapping) -> Prepared:
    """Return the rows with plain names: accelerators as gangplan calls them, tenants without odd characters.

    Names that the mapping itself gives stay as they are.
    """
    notes: list[str] = []
    for column, plainly in (("accelerator", _accelerator), ("tenant", _tenant)):
        if column not in rows.columns or mapping.column(column).words or mapping.column(column).constant is not None:
            continue
        said = rows[column].unique().drop_nulls().sort().to_list()
        plain = {word: plainly(word) for word in said}
        changed = [f"{word!r} as {name}" for word, name in plain.items() if word != name]
        if changed:
            shown = ", ".join(changed[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
            alike = len(plain) - len(set(plain.values()))
            count = f"{len(changed):,}, of which {alike:,} now as another" if alike else f"{len(changed):,}"
            notes.append(f"names of {column} were read plainly ({count}): {shown}")
            rows = rows.with_columns(pl.col(column).replace(plain))
    if "accelerator" in rows.columns:
        unknown = int(rows["accelerator"].is_null().sum())
        rows = rows.with_columns(pl.col("accelerator").fill_null(ANY))
        if unknown:
            notes.append(f"{rows_of(unknown)} without an accelerator: counted as {ANY!r}")
    return Prepared(frame=rows, notes=tuple(notes))


def _accelerator(word: str) -> str:
    """Return the short name of an accelerator."""
    return re.sub(_WITHOUT_NAME, "-", short_name(word)).strip("-._")[:63] or word


def _tenant(word: str) -> str:
    """Return a tenant's name with other characters than those of a name replaced."""
    return re.sub(_WITHOUT_NAME, "-", word).strip("-._")[:63] or word
