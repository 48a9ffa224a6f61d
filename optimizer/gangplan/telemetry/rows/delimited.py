"""Delimited text -> rows of text with their lines, as fast as Polars reads it.

Polars gives no lines and hides a short row. So the separators are counted first: while every line has as many as the
header, the row's place is its line. Lines that have not are named and kept out. Only records of several lines, and
quotes in odd places, need Python's reader.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from gangplan.errors import InputError

LINE, PLACE, FAULT = "_line", "_place", "_fault"
"""Columns that a reader adds: the row's line and file, and what is wrong with the row as a whole (null: nothing)."""

DELIMITERS = ",;\t|"
_NAMED = {"\t": "a tab"}
_ONE_LINE = "\x1e"
"""A separator that no table has: with it each line is one field."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a file is written, where it does not say so itself.

    `header`: the columns of a file without a header. `quoted`: whether quotes mean anything.
    """

    delimiter: str = ""
    header: tuple[str, ...] = ()
    quoted: bool = True
    encoding: str = ""


@dataclass(kw_only=True)
class Delimited:
    """Delimited text, to be read once: its columns, and the line of its first row."""

    text: bytes
    columns: list[str]
    delimiter: str
    first: int
    quoted: bool

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Return the rows of some columns, with LINE and FAULT, and let go of the text."""
        quoted = self.quoted and b'"' in self.text
        rows = None if quoted else self._whole(columns)
        if rows is None:
            rows = self._by_lines(columns, quoted)
        if rows is None:
            rows = self._by_records(columns)
        self.text = b""  # up to a gigabyte
        return rows

    def _whole(self, columns: Sequence[str]) -> pl.DataFrame | None:
        """Read text without quotes in which every line is a row of the header's width; None when one is not."""
        try:
            rows = self._parsed(self.text, columns, skipped=self.first - 1)
        except pl.exceptions.PolarsError:  # a line has too many fields
            return None
        start = 0
        for _ in range(self.first - 1):
            start = self.text.index(b"\n", start) + 1
        expected = rows.height * (len(self.columns) - 1)
        blank = rows.select(pl.all_horizontal(pl.all().is_null()).any()).item() if rows.height else False
        if blank or self.text.count(self.delimiter.encode(), start) != expected:
            return None
        lines = pl.int_range(self.first, self.first + pl.len(), dtype=pl.Int64).alias(LINE)
        return rows.with_columns(lines, pl.lit(None, pl.String).alias(FAULT))

    def _by_lines(self, columns: Sequence[str], quoted: bool) -> pl.DataFrame | None:
        """Read the lines that are rows of the header's width and name the others; None when a record has several."""
        lines = pl.DataFrame({"text": _lines(self.text)[self.first - 1 :]})
        counted = self._counted(lines, quoted)
        if quoted and counted["odd"].any():
            return None
        fits = (pl.col("fields") >= len(self.columns)) & (pl.col("filled") <= len(self.columns))
        good = counted.filter(~pl.col("blank") & fits)
        whole = good.height == counted.height
        text = self.text if whole else (lines["text"].gather(good["place"]).str.join("\n").item() or "").encode()
        del lines
        rows = pl.DataFrame(schema=dict.fromkeys(columns, pl.String()))
        try:
            if text:
                rows = self._parsed(text, columns, quoted=quoted, ragged=True, skipped=(self.first - 1) * whole)
        except pl.exceptions.PolarsError:  # a quote within a field
            return None
        if rows.height != good.height:
            return None
        line = (pl.col("place").cast(pl.Int64) + self.first).alias(LINE)
        fault = pl.format("{} fields where the header has {}", "fields", pl.lit(len(self.columns))).alias(FAULT)
        sound = rows.with_columns(good.select(line).to_series(), pl.lit(None, pl.String).alias(FAULT))
        bad = counted.filter(~pl.col("blank") & ~fits).select(line, fault)
        return pl.concat([sound, bad], how="diagonal").sort(LINE) if bad.height else sound

    def _counted(self, lines: pl.DataFrame, quoted: bool) -> pl.DataFrame:
        """Return of each line its place, its fields, those up to the last that is not empty, and what is odd in it."""
        delimiter = re.escape(self.delimiter)
        text = pl.col("text")
        bare = text.str.replace_all(r'"[^"]*"', "q") if quoted else text
        fields = bare.str.count_matches(self.delimiter, literal=True) + 1
        filled = bare.str.replace(rf"[{delimiter}\s]+$", "").str.count_matches(self.delimiter, literal=True) + 1
        return lines.select(
            fields=fields,
            filled=filled,
            blank=text.str.contains(rf'^[{delimiter}"\s]*$'),
            odd=text.str.count_matches('"', literal=True) % 2 == 1,
        ).with_row_index("place")

    def _parsed(
        self, text: bytes, columns: Sequence[str], *, quoted: bool = False, ragged: bool = False, skipped: int = 0
    ) -> pl.DataFrame:
        """Parse text whose rows have at least the header's width; what stands beyond it is empty."""
        read = pl.read_csv(
            text,
            has_header=False,
            skip_rows=skipped,
            separator=self.delimiter,
            quote_char='"' if quoted else None,
            columns=sorted(self.columns.index(name) for name in columns),
            infer_schema=False,
            truncate_ragged_lines=ragged,
        )
        return read.rename(dict(zip(read.columns, sorted(columns, key=self.columns.index), strict=True)))

    def _by_records(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read record by record, which is slow and knows every line."""
        records = (
            record
            for record in _records(self.text, self.delimiter)
            if record[0] >= self.first and any(field.strip() for field in record[1])
        )
        width, places = len(self.columns), [self.columns.index(name) for name in columns]
        rows = [
            (*(row[place] for place in places), line, None)
            if len(row) >= width and not any(field.strip() for field in row[width:])
            else (*[None] * len(places), line, f"{len(row)} fields where the header has {width}")
            for line, row in records
        ]
        schema = {**dict.fromkeys(columns, pl.String()), LINE: pl.Int64(), FAULT: pl.String()}
        return pl.DataFrame(rows, schema=schema, orient="row")


def open_delimited(text: bytes, path: Path, layout: Layout) -> Delimited:
    """Find the delimiter and the header of delimited text.

    Raises
    ------
    InputError
        When there is no header, two delimiters are as likely, or a column stands twice.
    """
    start, told = 1, layout.delimiter
    lines = io.BytesIO(text)  # not a copy of the text, which may be large
    first = lines.readline().strip().decode(errors="replace")
    if said := re.fullmatch(r'"?sep=(.)"?', first, re.IGNORECASE):  # Excel writes and reads this line
        start, told = 2, said[1]
        first = lines.readline().strip().decode(errors="replace")
    if told and (len(told) != 1 or not told.isascii()):
        raise InputError("delimiter", told, "is not one character: give it like ;")
    delimiter = told or _delimiter_of(first, path)
    columns, rows_from = list(layout.header), start
    if not columns:
        found = next(((end, row) for end, row in _ends(text, delimiter, layout.quoted) if end >= start), (start, [""]))
        rows_from, columns = found[0] + 1, [name.strip() for name in found[1]]
        while len(columns) > 1 and not columns[-1]:  # a spreadsheet's trailing delimiters
            columns.pop()
    refuse_header(columns, path)
    return Delimited(text=text, columns=columns, delimiter=delimiter, first=rows_from, quoted=layout.quoted)


def refuse_header(header: Sequence[str], path: Path) -> None:
    """Refuse a file without a header, with a column that stands twice, or with a name that is reserved."""
    if not any(header):
        raise InputError("source", path, "is empty: give a file with a header and at least one row")
    for column in header:
        if column in (LINE, PLACE, FAULT):
            raise InputError(column, path, "is a column that gangplan keeps for itself: give it another name")
        if header.count(column) > 1:
            raise InputError(column or "header", path, "has that column twice: name each column once")


def _delimiter_of(header: str, path: Path) -> str:
    """Return the delimiter that a header uses most."""
    bare = re.sub(r'"[^"]*"', "", header)
    counts = {delimiter: bare.count(delimiter) for delimiter in DELIMITERS}
    most = max(counts.values())
    likely = [delimiter for delimiter, count in counts.items() if count == most]
    if most and len(likely) > 1:
        words = " or ".join(_NAMED.get(delimiter, delimiter) for delimiter in likely)
        raise InputError("source", path, f"may be delimited by {words}: name the delimiter in a mapping")
    return likely[0]


def _lines(text: bytes) -> pl.Series:
    """Return the lines of a text; line 1 is the first."""
    whole = pl.read_csv(
        text, has_header=False, separator=_ONE_LINE, quote_char=None, infer_schema=False, truncate_ragged_lines=True
    )
    return whole.to_series().fill_null("").str.strip_chars_end("\r")


def _records(text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line that it begins on."""
    reader = csv.reader(io.StringIO(text.decode(), newline=""), strict=True, delimiter=delimiter)
    line = 1
    for row in reader:
        yield line, row
        line = reader.line_num + 1


def _ends(text: bytes, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the first records that are not blank, each with the line that it ends on."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = (line.decode() for line in io.BytesIO(text))
    reader = csv.reader(lines, strict=True, delimiter=delimiter, quoting=quoting)
    for row in reader:
        if any(field.strip() for field in row):
            yield reader.line_num, row
