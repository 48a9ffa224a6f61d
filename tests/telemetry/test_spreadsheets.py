"""Tables as spreadsheets and other programs write them: recognised, or named for what they are."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.rows import FAULT, LINE, open_table
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.values import Telemetry

NOW = datetime(2026, 11, 28, tzinfo=UTC)
HEADER = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"
ROW = "{id},search,cost,a100,{gpus},2026-03-01T00:00:00Z,2026-03-01T00:10:00Z,2026-03-01T05:00:00Z"


def _read(path: Path, raw: bytes | str, **reading: str) -> Telemetry:
    """Read a file as the ingest does."""
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return load(str(path), seed=7, clock=lambda: NOW, progress=no_progress, reading=Reading(**reading))


def _table(*gpus: str, delimiter: str = ",") -> str:
    """A table of jobs, one for each number of GPUs."""
    rows = [ROW.format(id=f"j{place}", gpus="@") for place in range(len(gpus))]
    text = "\n".join([HEADER, *rows]).replace(",", delimiter) + "\n"
    for number in gpus:
        text = text.replace("@", number, 1)
    return text


def _gpus(read: Telemetry) -> list[float]:
    """The GPUs of each job."""
    return read.jobs["gpus"].to_list()


SPELLINGS = {
    "semicolons": _table("4", "8", delimiter=";"),
    "tabs": _table("4", "8", delimiter="\t"),
    "bars": _table("4", "8", delimiter="|"),
    "mark of UTF-8": b"\xef\xbb\xbf" + _table("4", "8").encode(),
    "UTF-16 of Excel's Unicode text": _table("4", "8", delimiter="\t").encode("utf-16"),
    "line that names the delimiter": "sep=;\r\n" + _table("4", "8", delimiter=";").replace("\n", "\r\n"),
    "lines of Windows": _table("4", "8").replace("\n", "\r\n"),
    "lines of an old Mac": _table("4", "8").replace("\n", "\r"),
    "quoted header": '"' + HEADER.replace(",", '","') + '"\n' + _table("4", "8").partition("\n")[2],
    "all quoted": _table("4", "8").replace(",", '","').replace("\n", '"\n"').rstrip('"').join(['"', ""]),
    "blanks in the header": HEADER.replace(",", " , ") + "\n" + _table("4", "8").partition("\n")[2],
    "trailing commas": _table("4", "8").replace("\n", ",,\n"),
    "trailing commas in the rows alone": HEADER + "\n" + _table("4", "8").partition("\n")[2].replace("\n", ",\n"),
    "empty lines": _table("4", "8").replace("\n", "\n\n") + ",,,,,,,\n\n",
    "no end of the last line": _table("4", "8").rstrip("\n"),
    "packed under another name": gzip.compress(_table("4", "8").encode()),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_one_table_say_the_same(spelling: str, tmp_path: Path):
    """Whatever a program writes around the cells, the jobs are the same and no row is lost."""
    read = _read(tmp_path / "jobs.csv", SPELLINGS[spelling])
    assert (_gpus(read), read.rejected_count) == ([4.0, 8.0], 0)


def test_lines_are_the_files_own_whatever_stands_before_them(tmp_path: Path):
    """After a line of the delimiter, an empty one and a quoted line break, a wrong row has the line of an editor."""
    text = "sep=;\n" + _table("4", '"8"', "x", delimiter=";").replace("j1", '"two\nlines"').replace("j0", "\nj0")
    read = _read(tmp_path / "jobs.csv", text)
    assert [(bad.line, bad.value) for bad in read.rejected] == [(7, "x")]
    assert read.jobs["job_id"].to_list() == ["j0", "two\nlines"]


@pytest.mark.parametrize(
    ("table", "gpus"),
    [
        (_table("4,5", "0,25", "8", delimiter=";"), [4.5, 0.25, 8.0]),
        (_table('"4,5"', "8"), [4.5, 8.0]),
        (_table("0.5", "1.234", delimiter=";"), [0.5, 1.234]),
        (_table("1.234", "8"), [1.234, 8.0]),
    ],
)
def test_decimal_signs_that_are_plain_are_read(table: str, gpus: list[float], tmp_path: Path):
    """A comma that can only be one, and a point that can only be one."""
    read = _read(tmp_path / "jobs.csv", table)
    assert _gpus(read) == gpus
    assert ("',' was read as the decimal sign of numbers such as 4,5" in read.notes) == ("4,5" in table)


@pytest.mark.parametrize(
    ("table", "value", "line"),
    [
        (_table("8", "1.234", delimiter=";"), "1.234", 3),
        (_table("1,234", "8", delimiter=";"), "1,234", 2),
        (_table('"1,234"', "8"), "1,234", 2),
        (_table("4,5", "1.234", delimiter=";"), "4,5", 2),
        (_table("8", "1.234,5", delimiter=";"), "1.234,5", 3),
    ],
)
def test_numbers_in_doubt_are_refused_with_their_remedy(table: str, value: str, line: int, tmp_path: Path):
    """1.234 may be a fraction or thousands: the number and its line are named, and with --decimal it is read."""
    with pytest.raises(InputError, match=r"gpus: .* may be a fraction or thousands: name its decimal sign") as refused:
        _read(tmp_path / "jobs.csv", table)
    assert f"gpus: '{value}'" in str(refused.value)
    assert f"(jobs.csv line {line})" in str(refused.value)


def test_named_decimal_sign_is_used(tmp_path: Path):
    """With its sign named, 1.234 is a thousand or one."""
    table = _table("1.234", "8", delimiter=";")
    assert _gpus(_read(tmp_path / "jobs.csv", table, decimal=",")) == [1234.0, 8.0]
    assert _gpus(_read(tmp_path / "jobs.csv", table, decimal=".")) == [1.234, 8.0]
    with pytest.raises(InputError, match=r"gpus: '4.5' is no number with the decimal sign ,"):
        _read(tmp_path / "jobs.csv", _table("4.5", "8", delimiter=";"), decimal=",")
    with pytest.raises(InputError, match="decimal: ';' is no decimal sign"):
        Reading(decimal=";")


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        (
            _table("4").replace("search", "Größe").encode("cp1252"),
            r"is not a CSV file in UTF-8 \(byte 0xf6 in line 2\)",
        ),
        (_table("4").encode("utf-16-le"), "has zero bytes, as UTF-16 without its mark has"),
        (b"PK\x03\x04rest", "is an Excel workbook or a zip archive: save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0rest", "is an old Excel workbook"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS, not the file"),
        (b"a;b,c\n1;2,3\n", "may be delimited by , or ;: name the delimiter in a mapping"),
        (_table("4").replace("\n", ",\n", 1).replace("Z\n", "Z,more\n").encode(), "9 fields where the header has 8"),
        (b"\n\n", "is empty"),
    ],
)
def test_what_is_no_table_is_named_for_what_it_is(raw: bytes, remedy: str, tmp_path: Path):
    """One line, with what to do."""
    with pytest.raises(InputError, match=remedy) as refused:
        _read(tmp_path / "jobs.csv", raw)
    assert "\n" not in str(refused.value)


cell = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6) | st.sampled_from(
    ['say "hi"', "a,b", "a;b", "two\nlines", "", "|", '"', "\t"]
)
tables = st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1))


@given(
    rows=tables,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@examples(60, 3000)
def test_what_a_writer_of_csv_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    quoting: int,
    end: str,
    encoding: str,
):
    """Every cell of every row that is not empty, with its line, by whichever of the readers."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)  # pyright: ignore[reportArgumentType]
    names = [f"column_{place}" for place in range(len(rows[0]))]
    writer.writerow(names)
    wanted: list[tuple[str, ...]] = []
    for row in rows:
        line = text.getvalue().count("\n") + 1
        writer.writerow(row)
        if any(part.strip().strip(f'{delimiter}"') for part in row):
            wanted.append((*row, line))  # pyright: ignore[reportArgumentType]
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    if not wanted:
        return
    read = open_table(path).read()
    plain = [tuple(value or "" for value in row[:-1]) + row[-1:] for row in read.select(*names, LINE).iter_rows()]
    assert read[FAULT].null_count() == read.height
    assert [row for row in plain if any(part.strip().strip(f'{delimiter}"') for part in row[:-1])] == wanted
