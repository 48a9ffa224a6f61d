"""Files of tables -> rows of text with their lines, so that a wrong row can be named."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from gangplan.errors import InputError
from gangplan.telemetry.rows.delimited import FAULT, LINE, PLACE, Layout, open_delimited, refuse_header
from gangplan.telemetry.rows.texts import read_text

ENDINGS = (".csv", ".csv.gz", ".parquet", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson")
PERHAPS = (".txt", ".txt.gz", ".json", ".log")
"""Endings of files that may hold a table or may not."""

_JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class OpenTable:
    """A file whose columns are known and whose rows can be read once, a few columns of them."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    reader: Callable[[Sequence[str]], pl.DataFrame]

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows of some columns (None: all) as text, with LINE, PLACE and FAULT."""
        with _naming_faults(self.path):
            rows = self.reader(self.columns if columns is None else columns)
        if rows.is_empty():
            raise InputError("source", self.path, "has no row: give a file with a header and at least one row")
        return rows.with_columns(pl.lit(self.path.name).alias(PLACE))


def open_table(path: Path, layout: Layout | None = None) -> OpenTable:
    """Open a file of CSV or another delimited text, of JSON lines, or of Parquet, packed by gzip or not."""
    with _naming_faults(path):
        if path.name.endswith(".parquet"):
            return _parquet(path)
        layout = layout or Layout()
        text = read_text(path, layout.encoding)
        start = b"" if layout.header else text.lstrip()[:1]
        if start == b"[":
            return _json_array(path, text)
        if start == b"{" or path.name.endswith(_JSON_LINES):
            return _json_lines(path, text)
        found = open_delimited(text, path, layout)
        columns = tuple(found.columns)
        return OpenTable(path=path, columns=columns, delimiter=found.delimiter, reader=found.read)


def read_rows(path: Path) -> pl.DataFrame:
    """Return all rows of a file as text with their lines."""
    return open_table(path).read()


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that hold or may hold tables, sorted by name, without hidden files and folders."""
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise InputError("source", folder, f"cannot be read ({error.strerror}): check its rights") from None
    files = (path for path in inside if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.name.endswith((*ENDINGS, *PERHAPS)))


def is_table(path: Path) -> bool:
    """Return whether a file's name says that it holds a table."""
    return path.name.endswith(ENDINGS)


@contextmanager
def _naming_faults(path: Path) -> Generator[None]:
    """Turn what readers raise into an error that says what is wrong with the file."""
    try:
        yield
    except FileNotFoundError:
        raise InputError("source", path, "is not there: check the path") from None
    except OSError as error:
        raise InputError("source", path, f"cannot be read ({error.strerror or error}): check the file") from None
    except (EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        why = " ".join(str(error).split())[:160]
        raise InputError("source", path, f"is broken ({why}): make the file again") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("source", path, f"is not a CSV file in UTF-8 ({error}): save it as one") from None


def _parquet(path: Path) -> OpenTable:
    """Open Parquet; its line is the number of the row, from 1, and a time keeps the offset that its zone has."""
    schema = pl.read_parquet_schema(path)
    refuse_header(list(schema), path)

    def read(columns: Sequence[str]) -> pl.DataFrame:
        frame = pl.read_parquet(path, columns=list(columns))
        return _numbered(frame.select(_as_text(name, kind) for name, kind in frame.schema.items()))

    return OpenTable(path=path, columns=tuple(schema), delimiter="", reader=read)


def _json_lines(path: Path, text: bytes) -> OpenTable:
    """Open JSON lines; a line that is no JSON object is kept out by itself."""
    bad: dict[int, str] = {}
    try:
        frame = pl.read_ndjson(BytesIO(text), infer_schema_length=None)
        lines = None if frame.height == text.strip().count(b"\n") + 1 and not text[:1].isspace() else _objects(text, {})
    except pl.exceptions.PolarsError:
        lines = _objects(text, bad)
        if not lines:
            remedy = (
                "is JSON without an object in each line: give JSON lines, an array of objects, or of Slurm sacct -P"
            )
            raise InputError("source", path, remedy) from None
        frame = pl.DataFrame(
            [{key: _plain(value) for key, value in row.items()} for row in lines.values()], strict=False
        )
    return _json(path, frame, lines, bad)


def _json_array(path: Path, text: bytes) -> OpenTable:
    """Open a JSON array of objects; its line is the number of the object, from 1."""
    return _json(path, pl.read_json(BytesIO(text), infer_schema_length=None), None, {})


def _json(path: Path, frame: pl.DataFrame, lines: Iterable[int] | None, bad: Mapping[int, str]) -> OpenTable:
    """Open objects of JSON with their lines (None: their numbers, from 1), and the texts of lines that hold none."""
    refuse_header(frame.columns or [""], path)

    def read(columns: Sequence[str]) -> pl.DataFrame:
        rows = _numbered(frame.select(_as_text(name, frame.schema[name]) for name in columns))
        if lines is not None:
            rows = rows.with_columns(pl.Series(LINE, list(lines), dtype=pl.Int64))
        faults = pl.DataFrame({LINE: list(bad), FAULT: list(bad.values())}, schema={LINE: pl.Int64, FAULT: pl.String})
        return pl.concat([rows, faults], how="diagonal")

    return OpenTable(path=path, columns=tuple(frame.columns), delimiter="", reader=read)


def _objects(text: bytes, bad: dict[int, str]) -> dict[int, dict[str, Any]]:
    """Return the JSON objects of a text by line; a line that is none goes to `bad`."""
    found: dict[int, dict[str, Any]] = {}
    for line, row in enumerate(text.split(b"\n"), 1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found[line] = value
        else:
            bad[line] = row[:60].decode(errors="replace")
    return found


def _plain(value: object) -> str | None:
    """Return a JSON value as text."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with their numbers as lines, none of them wrong as a whole."""
    lines = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE)
    return rows.with_columns(lines, pl.lit(None, pl.String).alias(FAULT))


def _as_text(column: str, kind: pl.DataType) -> pl.Expr:
    """Return a typed column as the text that a CSV file would have; lists and objects as JSON within an object."""
    if isinstance(kind, pl.Datetime):
        return pl.col(column).dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{'' if kind.time_zone is None else '%:z'}")
    if isinstance(kind, pl.List | pl.Array | pl.Struct):
        return pl.struct(column).struct.json_encode().alias(column)
    return pl.col(column).cast(pl.String)
