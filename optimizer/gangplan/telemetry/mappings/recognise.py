"""Which table a file holds: one of gangplan's own, or one that a mapping knows."""

from __future__ import annotations

from collections.abc import Mapping as Names
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from gangplan.errors import InputError
from gangplan.telemetry.mappings.convert import convert
from gangplan.telemetry.mappings.mapping import read_mapping, shipped
from gangplan.telemetry.rows import (
    Layout,
    OpenTable,
    TableRows,
    TableSpec,
    open_table,
    plain_numbers,
    require_decimal,
    require_zone,
)

_NEAR = 0.5
"""A file that has so much of a table's columns is taken for one that lacks the others."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are to be read, where they do not say it: a mapping's name or file, a time zone, the decimal sign."""

    mapping: str = ""
    zone: str = ""
    decimal: str = ""

    def __post_init__(self) -> None:
        require_zone(self.zone)
        require_decimal(self.decimal)


def read_table(path: Path, specs: Names[str, TableSpec], reading: Reading) -> TableRows:
    """Return the rows of a file as those of one of gangplan's tables.

    Raises
    ------
    InputError
        When no table has its columns: those that the nearest one needs in addition are named.
    """
    if reading.mapping:
        mapping = read_mapping(reading.mapping)
        table = open_table(path, mapping.layout)
        own = _own(table, specs)
        if own is None or not mapping.missing_from(table.columns):
            return convert(mapping, table, zone=reading.zone, decimal=reading.decimal)
        return _own_rows(table, own, specs, reading)
    named = [name for name, each in shipped().items() if any(fnmatch(path.name, pattern) for pattern in each.files)]
    if len(named) == 1:
        return _as(named[0], open_table(path, shipped()[named[0]].layout), reading)
    table = open_table(path)
    own = _own(table, specs)
    if own is not None:
        return _own_rows(table, own, specs, reading)
    known = _known(table)
    if known is None:
        raise _unknown(table, specs)
    layout = shipped()[known].layout
    if layout != Layout():
        del table  # its text may be large, and is read anew as the mapping says
        table = open_table(path, layout)
    return _as(known, table, reading)


def _as(name: str, table: OpenTable, reading: Reading) -> TableRows:
    """Return the rows of a file that was recognised, and say as what."""
    mapping = shipped()[name]
    rows = convert(mapping, table, zone=reading.zone, decimal=reading.decimal)
    return replace(rows, notes=(f"{table.path.name} was read as {mapping.about} (mapping {name})", *rows.notes))


def _own(table: OpenTable, specs: Names[str, TableSpec]) -> str | None:
    """Return the table of gangplan's that has these columns; the one that needs most of them."""
    fitting = [name for name, spec in specs.items() if set(spec.required) <= set(table.columns)]
    return max(fitting, key=lambda name: len(specs[name].required), default=None)


def _own_rows(table: OpenTable, name: str, specs: Names[str, TableSpec], reading: Reading) -> TableRows:
    """Return the rows of one of gangplan's own tables."""
    columns = [field.name for field in specs[name].fields if field.name in table.columns]
    frame, notes = plain_numbers(
        table.read(columns), specs[name].numbers, delimiter=table.delimiter, decimal=reading.decimal
    )
    return TableRows(table=name, frame=frame, zone=reading.zone, notes=notes)


def _known(table: OpenTable) -> str | None:
    """Return the name of the one shipped mapping that the columns fit; of two, the one that knows more of them."""
    header = set(table.columns)
    fitting = {
        name: len(header & set(each.recognised_by))
        for name, each in shipped().items()
        if each.recognised_by and not each.missing_from(table.columns)
    }
    best = [name for name, count in fitting.items() if count == max(fitting.values())]
    if len(best) > 1:
        raise InputError("source", table.path, f"may be a table of {' or '.join(best)}: name one with --mapping")
    return best[0] if best else None


def _unknown(table: OpenTable, specs: Names[str, TableSpec]) -> InputError:
    """Return the error that names the columns that the nearest table has and this file lacks."""
    header = set(table.columns)
    if len(table.columns) == 1 and table.columns[0].startswith("JobID "):
        remedy = "is sacct's table for people: call it with -P (docs/telemetry.md)"
        return InputError("source", table.path, remedy)
    wanted = {f"a table of {name}": spec.required for name, spec in specs.items()}
    wanted |= {
        f"{each.about} (mapping {name})": each.recognised_by for name, each in shipped().items() if each.recognised_by
    }
    shares = {what: len(header & set(columns)) / len(columns) for what, columns in wanted.items()}
    nearest = max(shares, key=lambda what: shares[what])
    if shares[nearest] < _NEAR and "JobID" in header:
        remedy = "is sacct's, without the columns that are needed: call it as docs/telemetry.md says"
        return InputError("source", table.path, remedy)
    if shares[nearest] < _NEAR:
        remedy = (
            f"has the columns {', '.join(table.columns)[:80]}, which no known table has: give a table of "
            f"{', '.join(specs)}, or say with --mapping what its columns are (docs/telemetry.md)"
        )
        return InputError("source", table.path, remedy)
    partly = {f"{each.about} (mapping {name})": each.missing_from(table.columns) for name, each in shipped().items()}
    missing = [column for column in wanted[nearest] if column not in header] or partly[nearest]
    needs = f"{nearest} needs {', '.join(wanted[nearest])}"
    return InputError(", ".join(missing), table.path, f"lacks that column: {needs} (docs/telemetry.md)")
