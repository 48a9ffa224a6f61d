"""CSV and Parquet files -> rows of text with their lines, so that a wrong row can be named."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from gangplan.errors import InputError
from gangplan.telemetry.rows.checks import FAULT, LINE, PLACE

ENDINGS = (".csv", ".csv.gz", ".parquet")


def read_rows(path: Path) -> pl.DataFrame:
    """Return a file's rows as text with their lines; in a Parquet file the line is the number of the row, from 1."""
    try:
        rows = _parquet(path) if path.name.endswith(".parquet") else _csv(path)
    except FileNotFoundError:
        raise InputError("source", path, "is not there: check the path") from None
    except OSError as error:
        raise InputError("source", path, f"cannot be read ({error.strerror or error}): check the file") from None
    except (EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise InputError("source", path, f"is broken ({error}): make the file again") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("source", path, f"is not a CSV file in UTF-8 ({error}): save it as one") from None
    if rows.is_empty():
        raise InputError("source", path, "has no row: give a file with a header and at least one row")
    return rows.with_columns(pl.lit(path.name).alias(PLACE))


def files_of(folder: Path) -> list[Path]:
    """Return the files of tables in a folder, sorted by name, without hidden files and folders."""
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise InputError("source", folder, f"cannot be read ({error.strerror}): check its rights") from None
    tables = sorted(path for path in inside if path.name.endswith(ENDINGS) and not path.name.startswith("."))
    if not tables:
        raise InputError("source", folder, f"has no table: put {', '.join(ENDINGS)} files there (docs/telemetry.md)")
    return tables


def _csv(path: Path) -> pl.DataFrame:
    """Read CSV with the lines, which Polars' reader does not give; a row of another width is marked as a fault."""
    raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    records = _records(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    _, first = next(records, (1, [""]))
    header = [column.strip() for column in first]
    _refuse_header(header, path)
    width = len(header)
    fault = f"{{}} fields where the header has {width}"
    rows = [
        (*row, line, None) if len(row) == width else (*[None] * width, line, fault.format(len(row)))
        for line, row in records
        if row
    ]
    schema = {**dict.fromkeys(header, pl.String()), LINE: pl.Int64(), FAULT: pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _records(content: io.StringIO) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line that it begins on."""
    reader = csv.reader(content, strict=True)
    line = 1
    for row in reader:
        yield line, row
        line = reader.line_num + 1


def _refuse_header(header: list[str], path: Path) -> None:
    """Refuse a file without a header, with a column that stands twice, or with a name that is reserved."""
    if not any(header):
        raise InputError("source", path, "is empty: give a file with a header and at least one row")
    for column in header:
        if column in (LINE, PLACE, FAULT):
            raise InputError(column, path, "is a column that gangplan keeps for itself: give it another name")
        if header.count(column) > 1:
            raise InputError(column or "header", path, "has that column twice: name each column once")


def _parquet(path: Path) -> pl.DataFrame:
    """Read Parquet as text; a time without a zone stays without one, so the checks reject its rows."""
    frame = pl.read_parquet(path)
    _refuse_header(frame.columns, path)
    return frame.select(_as_text(name, kind) for name, kind in frame.schema.items()).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE), pl.lit(None, pl.String).alias(FAULT)
    )


def _as_text(column: str, kind: pl.DataType) -> pl.Expr:
    """Return a typed column as the text that a CSV file would have."""
    if not isinstance(kind, pl.Datetime):
        return pl.col(column).cast(pl.String)
    zone = "" if kind.time_zone is None else "%:z"
    return pl.col(column).dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
