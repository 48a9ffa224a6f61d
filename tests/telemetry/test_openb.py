"""The openb pods trace: only its hours that are no ramp of survivors, GPUs as shares, tenants from the qos."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store
from gangplan.types import SERIES

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
PRESENT = datetime(2026, 3, 2, 9, tzinfo=UTC)
HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"
HOUR = 3600
FIRST = 2768 * HOUR


def _read(path: Path) -> Telemetry:
    """Read a path as the ingest does."""
    return load(str(path), seed=7, clock=lambda: NOW, progress=no_progress)


def _pods(folder: Path, *rows: str) -> Path:
    """Write a list of pods."""
    path = folder / "pods.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_pod_becomes_a_job_of_its_share_class_and_first_model(tmp_path: Path):
    """2 GPUs of 500 milli are 1 GPU; of `P100|T4` the first is asked for; no model is `any`; no schedule is a wait."""
    read = _read(
        _pods(
            tmp_path,
            f"a,1,1,2,500,P100|T4,LS,Running,{FIRST},{FIRST + 2 * HOUR},{FIRST + 60}",
            f"b,1,1,1,1000,,BE,Pending,{FIRST + HOUR},{FIRST + 2 * HOUR},",
            f"c,1,1,4,1000,,Guaranteed,Running,{FIRST},,{FIRST}",
        )
    )
    assert read.jobs.select("job_id", *SERIES, "gpus").rows() == [
        ("a", "ls", "latency", "p100", 1.0),
        ("b", "be", "cost", "any", 1.0),
        ("c", "standard", "throughput", "any", 4.0),
    ]
    assert read.jobs["started_at"].null_count() == 1
    by_series = {key: part["gpus"].to_list() for key, part in read.demand.partition_by(SERIES, as_dict=True).items()}
    assert by_series["ls", "latency", "p100"][:3] == [1, 1, 0]
    assert by_series["be", "cost", "any"][:3] == [0, 1, 0]
    assert set(by_series["standard", "throughput", "any"]) == {4.0}
    assert read.end - read.start == timedelta(hours=816)


def test_ramp_and_pods_without_gpus_are_skipped_not_rejected(tmp_path: Path):
    """What ended before hour 2768 and what asks for no GPU is sound, but of no use."""
    read = _read(
        _pods(
            tmp_path,
            f"used,1,1,1,1000,,LS,Running,0,{FIRST + HOUR},0",
            f"ramp,1,1,1,1000,,LS,Running,0,{FIRST},0",
            f"cpu,1,1,0,0,,LS,Running,0,{FIRST + HOUR},0",
        )
    )
    assert (read.rows, read.skipped, read.rejected_count) == (1, 2, 0)
    assert read.demand["gpus"].to_list()[:2] == [1, 0]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("b,1,1,-1,1000,,LS,Running,{first},{last},{first}", "num_gpu x gpu_milli"),
        ("b,1,1,1,nan,,LS,Running,{first},{last},{first}", "num_gpu x gpu_milli"),
        ("b,1,1,1,1000,,XL,Running,{first},{last},{first}", "qos"),
        ("b,1,1,1,1000,,LS,Running,,{last},{first}", "creation_time"),
        ("b,1,1,1,1000,,LS,Running,{last},{first},", "deletion_time"),
        ("a,1,1,1,1000,,LS,Running,{first},{last},{first}", "name"),
    ],
)
def test_bad_pod_is_named(row: str, field: str, tmp_path: Path):
    """A pod that cannot be is kept out with its line and field."""
    good = f"a,1,1,1,1000,,LS,Running,{FIRST},{FIRST + HOUR},{FIRST}"
    read = _read(_pods(tmp_path, good, row.format(first=FIRST, last=FIRST + HOUR)))
    (bad,) = read.rejected
    assert (bad.place, bad.line, bad.field) == ("pods.csv", 3, field)
    assert read.rows == 1


def test_trace_outside_the_usable_hours_is_refused(tmp_path: Path):
    """Pods of the ramp alone are no telemetry."""
    with pytest.raises(InputError, match="jobs left out: they lie outside the hours that are used"):
        _read(_pods(tmp_path, "a,1,1,1,1000,,LS,Running,0,7200,0"))


def test_trace_beside_our_own_tables_is_refused(tmp_path: Path):
    """One folder is one source; the trace's own list of nodes may lie in it."""
    _pods(tmp_path, f"a,1,1,1,1000,,LS,Running,{FIRST},{FIRST + HOUR},{FIRST}")
    (tmp_path / "openb_nodes.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn,1,1,8,G2\n")
    assert _read(tmp_path).rows == 1
    (tmp_path / "events.csv").write_text("start,end,kind\n2026-01-01T00:00:00Z,2026-01-02T00:00:00Z,release\n")
    with pytest.raises(InputError, match="mixes a trace without a calendar with tables that have one"):
        _read(tmp_path)


def test_the_public_trace_is_the_hourly_sum_of_its_pods(shared_data: Path, mlflow_store: Store):
    """Read back from MLflow, aligned to the present, the 816 hours are what plain Python counts from the file."""
    file = shared_data / "openb" / "pods.csv.gz"
    replay = telemetry.Timing(replay=True)
    report = telemetry.ingest(str(file), mlflow_store, seed=7, clock=lambda: NOW, timing=replay)
    usage = telemetry.read_usage(mlflow_store)
    assert (usage.start, usage.end) == (PRESENT - timedelta(hours=816), PRESENT)
    assert (report.rows, report.skipped, report.rejected_count) == (7064, 1088, 0)
    with gzip.open(file, "rt") as text:
        pods = [
            (int(pod["num_gpu"]) * int(pod["gpu_milli"]) / 1000, int(pod["creation_time"]), int(pod["deletion_time"]))
            for pod in csv.DictReader(text)
        ]
    hours = dict(usage.demand.group_by("hour").agg(pl.sum("gpus")).iter_rows())
    for index in range(0, 816, 37):
        first, last = FIRST + index * HOUR, FIRST + (index + 1) * HOUR
        want = sum(gpus * max(0, min(last, end) - max(first, begin)) for gpus, begin, end in pods) / HOUR
        assert hours[usage.start + timedelta(hours=index)] == pytest.approx(want, abs=1e-4)
