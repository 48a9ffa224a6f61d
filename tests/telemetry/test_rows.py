"""Bad rows are counted, named with line and field, kept out and reported; a file of them is an error."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry.rows.schema import table_specs
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.values import Telemetry

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
HEADER = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"
GOOD = "a,search,cost,a100,4,2026-03-01T00:00:00Z,2026-03-01T00:10:00Z,2026-03-01T05:00:00Z"


def _load(path: Path) -> Telemetry:
    """Read a path as the ingest does."""
    return load(str(path), seed=7, clock=lambda: NOW, progress=no_progress)


def _jobs(folder: Path, *rows: str, header: str = HEADER, name: str = "jobs.csv") -> Path:
    """Write a table of jobs."""
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _with(**changed: str) -> str:
    """Return the good row, as job b, with some fields changed."""
    fields = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {"job_id": "b"} | changed
    return ",".join(fields[name] for name in HEADER.split(","))


BAD = {
    "no zone": ({"started_at": "2026-03-01T00:10:00"}, "started_at", "has no time zone: give its offset"),
    "day alone": ({"started_at": "2026-03-01"}, "started_at", "is not an ISO 8601 time"),
    "no such offset": ({"started_at": "2026-03-01T00:10:00+25:00"}, "started_at", "is not an ISO 8601 time"),
    "no time": ({"submitted_at": "yesterday"}, "submitted_at", "is not an ISO 8601 time"),
    "no such day": ({"ended_at": "2026-02-30T00:00:00Z"}, "ended_at", "is no day or hour that there is"),
    "future": ({"ended_at": "2026-03-02T09:21:00Z"}, "ended_at", "lies in the future"),
    "two-digit year": ({"submitted_at": "0026-03-01T00:00:00Z"}, "submitted_at", "lies before 2000"),
    "no submission": ({"submitted_at": ""}, "submitted_at", "is empty"),
    "negative GPUs": ({"gpus": "-4"}, "gpus", "must be greater than 0"),
    "no GPUs": ({"gpus": "0"}, "gpus", "must be greater than 0"),
    "NaN": ({"gpus": "NaN"}, "gpus", "is not a finite number"),
    "infinite": ({"gpus": "inf"}, "gpus", "is not a finite number"),
    "word": ({"gpus": "four"}, "gpus", "is not a finite number"),
    "too many GPUs": ({"gpus": "1e12"}, "gpus", "must be at most"),
    "end before start": ({"ended_at": "2026-03-01T00:05:00Z"}, "ended_at", "must not be before started_at"),
    "start before submission": (
        {"started_at": "2026-02-28T00:00:00Z"},
        "started_at",
        "must not be before submitted_at",
    ),
    "end of a waiting job": (
        {"started_at": "", "ended_at": "2026-02-28T00:00:00Z"},
        "ended_at",
        "must not be before submitted_at",
    ),
    "class": ({"workload_class": "training"}, "workload_class", "use one of latency, throughput, cost"),
    "tenant": ({"tenant": "../etc"}, "tenant", "is not a name"),
    "accelerator": ({"accelerator": ""}, "accelerator", "is empty"),
    "job id": ({"job_id": " "}, "job_id", "is empty"),
    "duplicate": ({"job_id": "a"}, "job_id", "stands twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_row_is_named_and_kept_out(case: str, tmp_path: Path):
    """Line 3 of three is bad: the report names file, line, field, value and remedy; the other two are used."""
    changed, field, remedy = BAD[case]
    read = _load(_jobs(tmp_path, GOOD, _with(**changed), _with(job_id="c")))
    (bad,) = read.rejected
    assert (bad.place, bad.line, bad.field, read.rejected_count) == ("jobs.csv", 3, field, 1)
    assert remedy in bad.remedy
    assert bad.value.strip() == changed[field].strip()
    assert str(bad).startswith(f"jobs.csv line 3: {field}: ")
    assert read.jobs["job_id"].to_list() == ["a", "c"]
    assert read.rows == 2


def test_rows_of_another_width_are_named(tmp_path: Path):
    """A row with a field too many or too few is bad as a whole, and does not hide the lines after it."""
    path = _jobs(tmp_path, GOOD, GOOD + ",more", "", "b,search", _with(gpus="-1"))
    read = _load(path)
    assert [(bad.line, bad.field) for bad in read.rejected] == [(3, "row"), (5, "row"), (6, "gpus")]
    assert read.rejected[0].value == "9 fields where the header has 8"


def test_line_is_the_files_own_after_a_quoted_newline(tmp_path: Path):
    """A job id with a line break in it moves the lines after it, as an editor shows them."""
    read = _load(_jobs(tmp_path, _with(job_id='"two\nlines"'), _with(gpus="0")))
    assert read.jobs["job_id"].to_list() == ["two\nlines"]
    assert read.rejected[0].line == 4


def test_report_keeps_twenty_and_counts_all(tmp_path: Path):
    """A thousand bad rows are counted; the first twenty are named."""
    read = _load(_jobs(tmp_path, GOOD, *(_with(job_id=f"x{n}", gpus="-1") for n in range(1000))))
    assert read.rejected_count == 1000
    assert [bad.line for bad in read.rejected] == list(range(3, 23))


def test_duplicate_of_a_bad_row_is_kept(tmp_path: Path):
    """Only a sound row claims its id."""
    read = _load(_jobs(tmp_path, _with(gpus="-1"), _with()))
    assert read.jobs["job_id"].to_list() == ["b"]
    assert [bad.field for bad in read.rejected] == ["gpus"]


def _refused(path: Path) -> InputError:
    """Read a path that must be refused."""
    with pytest.raises(InputError) as refused:
        _load(path)
    return refused.value


def test_file_without_a_usable_row_is_an_error_that_names_the_first(tmp_path: Path):
    """All rows bad: field, value, and the first row's fault."""
    error = _refused(_jobs(tmp_path, _with(gpus="-4"), _with(job_id="")))
    assert error.field == "source"
    assert "has no usable row: jobs.csv line 2: gpus: '-4' must be greater than 0" in str(error)


def test_missing_column_is_named(tmp_path: Path):
    """The nearest table's missing column is the field, and the remedy lists what the table needs."""
    error = _refused(_jobs(tmp_path, "a,search,cost,a100,4", header="job_id,tenant,workload_class,accelerator,gpus"))
    assert error.field == "submitted_at"
    assert "a table of jobs needs job_id, tenant, workload_class, accelerator, gpus, submitted_at" in str(error)


def test_missing_file_is_named(tmp_path: Path):
    """A path that is not there lists what a source may be."""
    assert "is not there: give sample, a CSV or Parquet file" in str(_refused(tmp_path / "no.csv"))


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", HEADER.encode(), "has no row"),
        (
            "latin.csv",
            f"{HEADER}\n{GOOD}".replace("search", "s\xe9arch").encode("latin-1"),
            "is not a CSV file in UTF-8",
        ),
        ("quote.csv", f'{HEADER}\n"a,search'.encode(), "is not a CSV file in UTF-8"),
        ("twice.csv", b"job_id,job_id\n1,2\n", "has that column twice"),
        ("own.csv", b"job_id,_line\n1,2\n", "is a column that gangplan keeps for itself"),
        ("cut.csv.gz", gzip.compress(f"{HEADER}\n{GOOD}\n".encode())[:-12], "is broken"),
        ("plain.csv.gz", f"{HEADER}\n{GOOD}\n".encode(), "cannot be read"),
        ("no.parquet", b"PAR1", "is broken"),
        ("empty.parquet", b"", "is broken"),
    ],
)
def test_unreadable_file_is_refused(name: str, content: bytes, remedy: str, tmp_path: Path):
    """A file that cannot be read says what is wrong with it, never a traceback of the reader's."""
    path = tmp_path / name
    path.write_bytes(content)
    error = _refused(path)
    assert remedy in str(error)
    assert "\n" not in str(error)


def test_folder_without_tables_is_refused(tmp_path: Path):
    """An empty folder says which files belong there."""
    (tmp_path / "notes.txt").write_text("nothing")
    assert "has no table: put .csv, .csv.gz, .parquet, .tsv" in str(_refused(tmp_path))


def test_span_below_an_hour_is_refused(tmp_path: Path):
    """Minutes of telemetry make no hour of demand."""
    times = {"submitted_at": "2026-03-01T00:01:00Z", "started_at": "2026-03-01T00:02:00Z"}
    assert "covers no whole hour" in str(_refused(_jobs(tmp_path, _with(**times, ended_at="2026-03-01T00:50:00Z"))))


@pytest.mark.parametrize(
    "source", ["", "x" * 5000, "no\0path", "s3://bucket/jobs.csv", "https://me:secret@host/jobs.csv"]
)
def test_what_is_no_source_is_refused_without_its_password(source: str):
    """What is neither a path nor a known address lists what may be given, and shows no password."""
    with pytest.raises(InputError, match=r"give sample, a CSV") as refused:
        load(source, seed=7, clock=lambda: NOW, progress=no_progress)
    assert "secret" not in str(refused.value)


def test_csv_gz_and_parquet_say_the_same_as_csv(tmp_path: Path):
    """The format makes no difference to the telemetry, nor to its digest but for the path."""
    plain = _load(_jobs(tmp_path, GOOD, _with(started_at="", ended_at="")))
    packed = tmp_path / "jobs.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "jobs.csv").read_bytes()))
    typed = tmp_path / "jobs.parquet"
    plain.jobs.write_parquet(typed)
    assert plain.sha256() == _load(packed).sha256() == _load(typed).sha256()


def test_parquet_times_need_a_zone_and_keep_its_instant(tmp_path: Path):
    """A naive timestamp is not taken for UTC; one of a zone is the instant that it names."""
    path = tmp_path / "jobs.parquet"
    jobs = _load(_jobs(tmp_path, GOOD)).jobs
    jobs.with_columns(pl.col("submitted_at").dt.replace_time_zone(None)).write_parquet(path)
    assert "jobs.parquet line 1: submitted_at: '2026-03-01T00:00:00" in str(_refused(path))
    jobs.with_columns(pl.col("submitted_at").dt.convert_time_zone("Europe/Berlin")).write_parquet(path)
    assert _load(path).jobs.equals(jobs)


def test_requests_alone_are_telemetry(tmp_path: Path):
    """The span is that of the samples, there is no demand, and what they are good for is said."""
    path = tmp_path / "requests.csv"
    rows = [f"2026-03-01T{hour:02}:05:00Z,chat,{hour}" for hour in range(9)]
    path.write_text("\n".join(["time,tenant,requests_per_second", *rows]) + "\n")
    read = _load(path)
    assert (read.requests.height, read.demand.height, read.rows) == (9, 0, 9)
    assert (read.start, read.end) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 8, tzinfo=UTC))
    assert any("`gangplan forecast minutes --of requests` uses them" in note for note in read.notes)


def test_folder_reads_every_table_and_given_demand_wins(tmp_path: Path):
    """Demand that is given is used as it is, empty where it was not measured; other series are counted from jobs."""
    _jobs(tmp_path, GOOD, _with(tenant="vision"))
    (tmp_path / "demand.csv").write_text(
        "hour,tenant,workload_class,accelerator,gpus\n"
        "2026-03-01T00:00:00Z,search,cost,a100,9\n"
        "2026-03-01T01:00:00Z,search,cost,a100,\n"
        "2026-03-01T01:30:00Z,search,cost,a100,1\n"
        "2026-03-01T00:00:00Z,search,cost,a100,7\n"
    )
    (tmp_path / "requests.csv").write_text("time,tenant,requests_per_second\n2026-03-01T00:00:00Z,search,1.5\n")
    (tmp_path / "queue.csv").write_text(
        "time,tenant,accelerator,jobs,gpus\n2026-03-01T00:00:00Z,search,a100,2,8\n2026-03-01T00:00:00Z,search,a100,x,8\n"
    )
    (tmp_path / "nodes.csv").write_text(
        "time,node,accelerator,gpu_utilization\n2026-03-01T00:00:00Z,n1,a100,0.5\n2026-03-01T01:00:00Z,n1,a100,50\n"
    )
    (tmp_path / "events.csv").write_text(
        "start,end,kind,tenant\n2026-04-01T00:00:00Z,2026-04-02T00:00:00Z,release,\n"
        "2026-04-01T00:00:00Z,2026-03-02T00:00:00Z,release,\n"
    )
    read = _load(tmp_path)
    search = read.demand.filter(tenant="search")["gpus"].to_list()
    assert search == [9, None, None, None, None]
    assert read.demand.filter(tenant="vision")["gpus"].to_list() == [4, 4, 4, 4, 4]
    assert (read.requests.height, read.queue.height, read.nodes.height, read.events.height) == (1, 1, 1, 1)
    assert {(bad.place, bad.line, bad.field) for bad in read.rejected} == {
        ("demand.csv", 4, "hour"),
        ("demand.csv", 5, "hour, tenant, workload_class, accelerator"),
        ("queue.csv", 3, "jobs"),
        ("nodes.csv", 3, "gpu_utilization"),
        ("events.csv", 3, "end"),
    }
    assert read.rejected_count == 5
    assert read.rows == 2 + 2 + 4


moments = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.isoformat())  # noqa: DTZ001
zones = st.sampled_from(["Z", "+00:00", "", "+01:00", "-0530", "z", " UTC", "+24:00"])
gpus = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-10, 2_000_000)
word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
numeral = st.text("0123456789.-+eE x", max_size=5)
row = st.tuples(word, st.sampled_from(["cost", "latency", "gpu"]) | word, gpus.map(str) | numeral, moments, zones)


def _sound(each: tuple[str, str, str, str, str]) -> bool:
    """Say independently, in plain Python, whether a row is sound."""
    tenant, kind, count, at, zone = each
    try:
        value = float(count)
        moment = datetime.fromisoformat(at + {"z": "Z", " UTC": "Z"}.get(zone, zone))
    except ValueError:
        return False
    plain = tenant.strip().isascii() and tenant.strip().replace(".", "").replace("_", "").replace("-", "").isalnum()
    return (
        plain
        and tenant.strip()[0] not in "._-"
        and kind.strip() in ("latency", "throughput", "cost")
        and math.isfinite(value)
        and 0 < value <= 1_000_000
        and zone != ""
        and datetime(2000, 1, 1, tzinfo=UTC) <= moment <= NOW
    )


@given(st.lists(row, min_size=1, max_size=8))
@examples(80, 4000)
def test_rows_are_kept_if_and_only_if_they_are_sound(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
):
    """Whatever stands in a row: every row is either used or counted as bad, and never the wrong way round."""
    import csv

    path = tmp_path_factory.mktemp("rows") / "jobs.csv"
    anchor = ["anchor", "t", "cost", "a", "1", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        writer.writerow(anchor)
        for number, (tenant, kind, count, at, zone) in enumerate(rows):
            writer.writerow([f"job-{number}", tenant, kind, "a", count, at + zone, "", ""])
    read = _load(path)
    wanted = [f"job-{number}" for number, each in enumerate(rows) if _sound(each)]  # pyright: ignore[reportArgumentType]
    assert sorted(read.jobs["job_id"]) == sorted(["anchor", *wanted])
    assert read.rejected_count == len(rows) - len(wanted)
    assert timedelta(hours=1) <= read.end - read.start


def test_documented_columns_are_those_that_are_read():
    """The table in docs/telemetry.md names every column, and in italics those that may be missing."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "telemetry.md").read_text()
    page = page.partition("## Your own files")[2].partition("\n## ")[0]
    specs = table_specs(NOW)
    documented = {
        cells[1].strip(): [column.strip() for column in cells[2].split(",")]
        for cells in (line.split("|") for line in page.splitlines() if line.startswith("| "))
        if cells[1].strip() in specs
    }
    read = {
        table: [f"*{field.name}*" if field.optional else field.name for field in spec.fields]
        for table, spec in specs.items()
    }
    assert {table: sorted(columns) for table, columns in documented.items()} == {
        table: sorted(columns) for table, columns in read.items()
    }
