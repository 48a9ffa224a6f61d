"""What a mapping file says: which columns of another's table are gangplan's, in which units and which time zone."""

from __future__ import annotations

import re
from collections.abc import Mapping as Words
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import TypeAdapter

from gangplan.clock import HOUR, parse_span, parse_utc, require_utc
from gangplan.errors import InputError
from gangplan.telemetry.mappings.philly import PHILLY
from gangplan.telemetry.mappings.prepared import Preparation
from gangplan.telemetry.mappings.sacct import SACCT
from gangplan.telemetry.rows import Kind, Layout, TableSpec, request_log, require_decimal, require_zone, table_specs
from gangplan.yaml_files import YamlDocument, parse_yaml, read_yaml

ENDING = ".yaml"

PREPARATIONS = {"sacct": SACCT, "philly": PHILLY}

ISO, SLURM = "iso", "slurm"
"""Forms of times: ISO 8601; Slurm's, which are ISO 8601 or, by SLURM_TIME_FORMAT=%s, whole seconds since 1970."""

UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6}
"""Units of times and of durations that are numbers, in seconds."""

RELATIVE_ORIGIN = datetime.fromisoformat("2001-01-01T00:00:00+00:00")
"""The time 0 of a trace without a calendar: a Monday."""

TABLES, LOG = table_specs(RELATIVE_ORIGIN), request_log(RELATIVE_ORIGIN)
"""The columns of gangplan's tables, whatever the present is."""


class _Strict:
    """The base of values that are read from a file: a misspelt field is refused."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Column(_Strict):
    """Where one of gangplan's columns comes from: a column, the first of several that is not empty, or a constant.

    `file`: it is the name of the file, without its ending. `joined_with` is a column whose text follows after a stroke.
    `pattern` takes the first group of a regular expression. `words` translates, `otherwise` is for all other words. A
    number is multiplied by that of the column `multiplied_by` and divided by `divided_by`. `plus` is a column with the
    seconds that are added to a time.
    """

    column: str | tuple[str, ...] = ()
    joined_with: str = ""
    constant: str | int | float | None = None
    file: bool = False
    pattern: str = ""
    words: Words[str, str] = field(default_factory=dict[str, str])
    otherwise: str | None = None
    multiplied_by: str = ""
    divided_by: float = 1.0
    plus: str = ""

    def __post_init__(self) -> None:
        given = [bool(self.column), self.constant is not None, self.file]
        if sum(given) != 1:
            raise InputError("column", str(self.column or ""), "give one of column, constant and file")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise InputError("pattern", self.pattern, f"is no regular expression ({error}): correct it") from None
        if self.pattern and groups != 1:
            raise InputError("pattern", self.pattern, "needs one group in brackets: what is in it is taken")
        if self.divided_by <= 0:
            raise InputError("divided_by", self.divided_by, "must be greater than 0")

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns of which the first that is not empty counts."""
        return (self.column,) if isinstance(self.column, str) else self.column

    @property
    def label(self) -> str:
        """What the file calls it."""
        return " x ".join(name for name in (*self.sources[:1], self.multiplied_by) if name)

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns that it needs beside."""
        return tuple(name for name in (self.joined_with, self.multiplied_by, self.plus) if name)


@dataclass(frozen=True, kw_only=True)
class LeftOut(_Strict):
    """Rows that are of no use: in each of these columns stands one of these words; and why they are left out."""

    where: Words[str, tuple[str, ...]]
    because: str

    def __post_init__(self) -> None:
        if not self.where:
            raise InputError("where", "{}", "is empty, which is true of every row: name a column and its words")


@dataclass(frozen=True, kw_only=True)
class Mapping(_Strict):
    """How a table of others is read; docs/telemetry.md says what each field means."""

    about: str = ""
    source: str = ""
    table: str = "jobs"
    columns: Words[str, str | Column] = field(default_factory=dict[str, "str | Column"])
    recognised_by: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    delimiter: str = ""
    quoted: bool = True
    encoding: str = ""
    decimal: str = ""
    empty: tuple[str, ...] = ()
    zone: str = ""
    times: str = ISO
    since: str | datetime = ""
    relative: bool = False
    hours: tuple[int, int] | None = None
    count_every: str = ""
    leave_out: tuple[LeftOut, ...] = ()
    prepare: Literal["", "sacct", "philly"] = ""
    refuse: str = ""
    based_on: str = ""

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise InputError.unknown("table", self.table, "no table of gangplan", TABLES)
        names = [each.name for each in self._spec.fields]
        for name in self.columns:
            if name not in names:
                raise InputError.unknown(f"columns.{name}", name, f"no column of {self.table}", names)
        require_zone(self.zone)
        require_decimal(self.decimal)
        self.origin  # noqa: B018 - it refuses a wrong one
        self.step  # noqa: B018
        if not (self.times in (ISO, SLURM, *UNITS) or "%" in self.times):
            forms = ", ".join((ISO, SLURM, *UNITS))
            remedy = f"is no form of times: give {forms}, or a pattern like %d.%m.%Y %H:%M"
            raise InputError("times", self.times, remedy)
        missing = [name for name in self._spec.required if name not in self.columns]
        if missing and not self.refuse:
            remedy = f"is missing: a table of {self.table} needs it; where all rows have the same, give a constant"
            raise InputError("columns", ", ".join(missing), remedy)

    @property
    def _spec(self) -> TableSpec:
        """The columns that it gives."""
        return LOG if self.count_every else TABLES[self.table]

    @property
    def moments(self) -> set[str]:
        """The columns of gangplan's table that are times."""
        return {each.name for each in self._spec.fields if each.kind is Kind.TIME}

    @property
    def numbers(self) -> list[str]:
        """The columns of gangplan's table that are numbers."""
        return self._spec.numbers

    @property
    def origin(self) -> datetime:
        """The moment of the time 0, for times that are numbers."""
        if self.relative:
            return RELATIVE_ORIGIN
        if isinstance(self.since, datetime):
            return require_utc("since", self.since)
        return parse_utc("since", self.since or "1970-01-01T00:00:00Z")

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The hours that are used, counted from the time 0; none if all are."""
        if self.hours is None:
            return None
        first, last = self.hours
        return self.origin + first * HOUR, self.origin + last * HOUR

    @property
    def step(self) -> timedelta | None:
        """In which steps requests are counted; none if they are not."""
        return parse_span("count_every", self.count_every) if self.count_every else None

    @property
    def layout(self) -> Layout:
        """How the file is written."""
        return Layout(delimiter=self.delimiter, header=self.header, quoted=self.quoted, encoding=self.encoding)

    def column(self, name: str) -> Column:
        """Return where one of gangplan's columns comes from."""
        said = self.columns[name]
        return Column(column=said) if isinstance(said, str) else said

    def missing_from(self, header: tuple[str, ...]) -> list[str]:
        """Return the columns that it needs and a file lacks; of several that serve alike, the first."""
        wanted = [self.column(name) for name in self.columns]
        there = {*header, *(self.preparation.makes if self.preparation else ())}
        lacking = [each.sources[0] for each in wanted if each.sources and not set(each.sources) & there]
        beside = [name for each in wanted for name in each.beside if name not in header]
        filtered = [name for rule in self.leave_out for name in rule.where if name not in header]
        needed = [name for name in self.recognised_by if name not in header]
        return list(dict.fromkeys([*lacking, *beside, *filtered, *needed]))

    @property
    def preparation(self) -> Preparation | None:
        """What makes the rows ready before their columns are mapped."""
        return PREPARATIONS[self.prepare] if self.prepare else None


_MAPPING = TypeAdapter(Mapping)


@cache
def shipped() -> Words[str, Mapping]:
    """Return the mappings that ship with gangplan, by name."""
    folder = resources.files("gangplan.telemetry.mappings") / "shipped"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(ENDING)), key=lambda each: each.name)
    found: dict[str, Mapping] = {}
    for each in files:
        document = parse_yaml(each.read_text(), "mapping", each.name)
        found[each.name.removesuffix(ENDING)] = document.read_as(_MAPPING, "mapping", qualified=False)
    return found


def read_mapping(name: str) -> Mapping:
    """Return a mapping that ships with gangplan, by its name, or that of a file.

    Raises
    ------
    InputError
        When there is none of that name, or the file is wrong: file, line, field and remedy are named.
    """
    if name in shipped():
        return shipped()[name]
    if not name.endswith((ENDING, ".yml")) and not Path(name).exists():
        near = get_close_matches(name, shipped(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        remedy = f"is no mapping: {hint}give a file, or one of {', '.join(shipped())}"
        raise InputError("mapping", name, remedy)
    document = read_yaml(Path(name), "mapping")
    return _based(document).read_as(_MAPPING, "mapping", qualified=False)


def _based(document: YamlDocument) -> YamlDocument:
    """Return a mapping's values laid over those that it is based on."""
    body = cast("dict[str, Any]", document.body if isinstance(document.body, dict) else {})
    name = body.get("based_on")
    if not name:
        return document
    with document.naming_lines():
        if name not in shipped():
            raise InputError.unknown("based_on", name, "no mapping that ships with gangplan", shipped())
    base = shipped()[name]
    values: dict[str, Any] = {each.name: getattr(base, each.name) for each in fields(base)}
    said = body.get("columns", {})
    columns: Any = {**base.columns, **cast("dict[str, Any]", said)} if isinstance(said, dict) else said
    return replace(document, body={**values, **body, "columns": columns})
