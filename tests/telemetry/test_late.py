"""Telemetry that is late is late: nothing of it is moved or thrown away, and the hours since are missing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan import telemetry
from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry import IngestReport, Timing
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.timing import delivered
from gangplan.testing import NOW, a_calendar, a_pool, a_request, memory_ledger
from gangplan.tracking import Store

HEADER = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"


def quiet_export(folder: Path, quiet: int) -> str:
    """Twenty days of jobs of 8 GPUs; three of 16 run now, and nothing began or ended since they began."""
    begun = NOW - quiet * HOUR
    rows = [f"r{number},vision,throughput,a100,16,{begun:%FT%TZ},{begun:%FT%TZ}," for number in range(3)]
    at = NOW - timedelta(days=20)
    while at + 5 * HOUR < begun:
        rows.append(f"d{len(rows)},vision,throughput,a100,8,{at:%FT%TZ},{at:%FT%TZ},{at + 5 * HOUR:%FT%TZ}")
        at += 12 * HOUR
    return written(folder, rows)


def written(folder: Path, rows: list[str]) -> str:
    """Write a table of jobs and return its path."""
    file = folder / "jobs.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n")
    return str(file)


def brought_in(store: Store, file: str, until: str = "") -> IngestReport:
    """Import a file at NOW."""
    return telemetry.ingest(file, store, seed=7, clock=lambda: NOW, timing=Timing(until=until))


@pytest.mark.parametrize("quiet", [1, 5, 7, 40])
def test_a_quiet_weekend_keeps_its_demand(tmp_path: Path, mlflow_store: Store, quiet: int) -> None:
    """48 GPUs run: they are the demand of the last hour, that of the file's last time, and a note says so."""
    report = brought_in(mlflow_store, quiet_export(tmp_path, quiet))
    usage = report.usage
    assert usage.demand["gpus"][-1] == 48
    assert (usage.end, report.age) == (NOW - (quiet - 1) * HOUR, (quiet - 1) * HOUR)
    if quiet == 1:
        assert usage.notes == ()
    else:
        assert usage.notes[0].startswith(f"jobs without an end: 3; they count up to {usage.end:%Y-%m-%d %H:%M}")
        assert "--until now" in usage.notes[0]


@pytest.mark.parametrize("quiet", [1, 5, 7, 40])
def test_an_export_of_now_reaches_the_present(tmp_path: Path, mlflow_store: Store, quiet: int) -> None:
    """With `until` the 48 GPUs are the demand of every hour up to now."""
    report = brought_in(mlflow_store, quiet_export(tmp_path, quiet), until="now")
    assert report.usage.demand["gpus"].to_list()[-quiet:] == [48.0] * quiet
    assert (report.usage.end, report.age, report.usage.notes) == (NOW, timedelta(), ())


def test_a_rise_in_the_last_days_is_kept_whole(tmp_path: Path, mlflow_store: Store) -> None:
    """A file that ended ten hours ago, in which demand rose from 8 to 64 GPUs in three days, ends with the 64."""
    end = NOW - 10 * HOUR
    rows = [f"base,vision,throughput,a100,8,{NOW - timedelta(days=20):%FT%TZ},,{end:%FT%TZ}"]
    for day in range(1, 8):
        since = end - timedelta(days=3) + day * 9 * HOUR
        rows.append(f"more{day},vision,throughput,a100,8,{since:%FT%TZ},,{end:%FT%TZ}")
    usage = brought_in(mlflow_store, written(tmp_path, rows)).usage
    assert (usage.end, usage.demand["gpus"][-1]) == (end, 64)
    assert usage.demand["gpus"].to_list()[-72:] == [8.0 + 8 * (hour // 9) for hour in range(72)]


def test_a_time_after_the_export_is_refused(tmp_path: Path, mlflow_store: Store) -> None:
    """Who says that a file ends before its own last time is told which that is; nothing is written."""
    file, until = quiet_export(tmp_path, 5), (NOW - 6 * HOUR).isoformat()
    with pytest.raises(InputError, match=r"until: .* is before the last time, 2026-03-02T04:00:00\+00:00"):
        brought_in(mlflow_store, file, until=until)
    assert not mlflow_store.runs("gangplan/telemetry", {"kind": "import"})


def test_hours_since_are_missing(tmp_path: Path, mlflow_store: Store) -> None:
    """Up to now they are nulls, and the last known hour stays named."""
    brought_in(mlflow_store, quiet_export(tmp_path, 5))
    usage = telemetry.until_now(telemetry.read_usage(mlflow_store, NOW), NOW)
    assert (usage.end, usage.known_until) == (NOW, NOW - 4 * HOUR)
    assert usage.demand["gpus"].to_list()[-6:] == [0, 48, None, None, None, None]


def test_the_last_hour_is_that_of_the_usage(tmp_path: Path, mlflow_store: Store) -> None:
    """It is known without a table: the import's own end, or the full hour before now where that is earlier."""
    brought_in(mlflow_store, quiet_export(tmp_path, 5))
    for now, end in ((NOW, NOW - 4 * HOUR), (NOW - 6.5 * HOUR, NOW - 7 * HOUR)):
        assert telemetry.last_hour(mlflow_store, now) == telemetry.read_usage(mlflow_store, now).end == end


def test_the_ledger_fills_what_it_alone_knows(tmp_path: Path, mlflow_store: Store) -> None:
    """A series of reservations alone goes on by the ledger; one of which others ask too is missing."""
    brought_in(mlflow_store, quiet_export(tmp_path, 5))
    ledger = memory_ledger(calendar=a_calendar([a_pool(), a_pool("a100-owned")]))
    kept = [ledger.submit(a_request("own")), ledger.submit(a_request("shared", accelerators=("a100",)))]
    telemetry.record_reservations(kept, mlflow_store, clock=lambda: NOW)
    later = NOW + 3 * HOUR
    usage = telemetry.until_now(telemetry.read_usage(mlflow_store, later), later)
    assert usage.demand.filter(accelerator="h100")["gpus"].to_list()[-3:] == [8, 8, 8]
    assert usage.demand.filter(accelerator="a100")["gpus"].to_list()[-3:] == [None] * 3


def test_a_trace_is_walked_through(tmp_path: Path, mlflow_store: Store) -> None:
    """As of a moment nothing later is known, whether the trace was imported then or whole."""
    file = quiet_export(tmp_path, 5)
    then = NOW - timedelta(days=10, hours=8)
    walked = telemetry.ingest(file, mlflow_store, seed=7, clock=lambda: then, timing=Timing(walks=True))
    assert walked.rejected_count == 0
    brought_in(mlflow_store, file, until="now")
    for usage in (walked.usage, telemetry.read_usage(mlflow_store, then)):
        assert usage.end == then
        assert usage.jobs["submitted_at"].max() == then - 4 * HOUR
        assert usage.jobs["ended_at"].null_count() == 1
        assert usage.demand["gpus"].to_list()[-6:] == [0, 0, 8, 8, 8, 8]
    assert walked.usage.demand.equals(telemetry.read_usage(mlflow_store, then).demand)


@given(jobs=st.lists(st.tuples(*[st.integers(0, 60 * 24 * 40)] * 3), min_size=1, max_size=12), age=st.integers(0, 900))
@examples(30, 1000)
def test_every_time_comes_in_as_it_was_written(jobs: list[tuple[int, int, int]], age: int) -> None:
    """Whatever its age, no time of a file changes on its way into the tables."""
    begin = NOW - timedelta(days=40) - age * HOUR
    times = [sorted(begin + timedelta(minutes=minutes) for minutes in job) for job in jobs]
    times.append([begin, begin, begin + 2 * HOUR])
    rows = [f"j{n},vision,cost,a100,1," + ",".join(f"{at:%FT%TZ}" for at in job) for n, job in enumerate(times)]
    with TemporaryDirectory() as folder:
        raw = load(written(Path(folder), rows), seed=7, clock=lambda: NOW, progress=no_progress)
    kept = delivered(Timing().placed(raw, NOW), NOW)
    assert sorted(kept.jobs.select("submitted_at", "started_at", "ended_at").rows()) == sorted(map(tuple, times))
    assert kept.end == max(job[2] for job in times).replace(minute=0)
