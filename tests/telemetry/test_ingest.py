"""An import is whole or not there, is not done twice, and says what it used."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.errors import InputError, NotFoundError
from gangplan.progress import no_progress
from gangplan.telemetry import Timing, ingestion
from gangplan.telemetry.demand import LONGEST
from gangplan.telemetry.sources import load
from gangplan.telemetry.timing import delivered
from gangplan.tracking import TELEMETRY, Store
from gangplan.types import SERIES

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
HEADER = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"


def _clock() -> datetime:
    return NOW


def _file(folder: Path, *rows: str) -> Path:
    """Write a small table of jobs."""
    path = folder / "jobs.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


ROW = "{id},search,cost,a100,{gpus},2026-03-01T00:00:00Z,2026-03-01T00:10:00Z,2026-03-01T{end}:00:00Z"


def _imports(store: Store) -> int:
    """Count the finished imports."""
    return len(store.runs(TELEMETRY, {"kind": "import"}, limit=50))


def test_same_telemetry_in_the_same_hour_is_reused(tmp_path: Path, mlflow_store: Store):
    """The second import of the same rows writes no run, and says so."""
    file = _file(tmp_path, ROW.format(id="a", gpus=4, end="05"))
    first = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    second = telemetry.ingest(str(file), mlflow_store, seed=7, clock=lambda: NOW + timedelta(minutes=30))
    assert (first.reused, second.reused) == (False, True)
    assert first.run_id == second.run_id
    assert first.usage.demand.equals(second.usage.demand)
    assert _imports(mlflow_store) == 1


@pytest.mark.parametrize("at", ["", "2024-06-01T00:00:00Z"])
def test_one_job_of_decades_ago_makes_no_decades_of_hours(at: str, tmp_path: Path):
    """The hours that are left out are not made first, as of whatever moment; a note says so; others are the same."""
    old = ROW.format(id="old", gpus=8, end="05").replace("2026", "2002")
    rows = [ROW.format(id=year, gpus=3, end="05").replace("2026", year) for year in ("2022", "2024", "2026")]
    asked = {"seed": 7, "clock": _clock, "progress": no_progress, "timing": Timing(replay=bool(at), at=at)}
    usual = load(str(_file(tmp_path, *rows)), **asked)
    made = load(str(_file(tmp_path, old, *rows)), **asked)
    first = (datetime.fromisoformat(at) if at else made.end) - LONGEST
    assert made.demand["hour"].min() == first
    both = pl.col("hour") >= max(first, usual.start)
    assert made.demand.filter(both).equals(usual.demand.filter(both))
    kept = delivered(made, NOW)
    assert kept.jobs["job_id"].to_list() == ["2024", "2026"]
    assert f"what lies before {kept.start:%Y-%m-%d %H:00} was left out: 1096 days are kept" in kept.notes


def test_other_rows_or_another_export_are_imported_anew(tmp_path: Path, mlflow_store: Store):
    """A changed value, a later export, an older import than the newest: each is a run of its own."""
    file = _file(tmp_path, ROW.format(id="a", gpus=4, end="05"))
    telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    _file(tmp_path, ROW.format(id="a", gpus=5, end="05"))
    changed = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    later = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock, timing=Timing(until="2026-03-01T06:10:00Z"))
    again = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    assert not any(report.reused for report in (changed, later, again))
    assert len({changed.usage.sha256, later.usage.sha256}) == 2
    assert again.usage.sha256 == changed.usage.sha256
    assert later.usage.end == changed.usage.end + timedelta(hours=1)
    assert _imports(mlflow_store) == 4
    assert telemetry.ingest(str(file), mlflow_store, seed=7, clock=lambda: NOW + timedelta(days=9)).reused
    assert telemetry.read_usage(mlflow_store).run_id == again.run_id


def test_report_and_run_name_the_bad_rows(tmp_path: Path, mlflow_store: Store):
    """What was kept out stands in the report, in the run's parameters, and as a text beside the tables."""
    file = _file(tmp_path, ROW.format(id="a", gpus=4, end="05"), ROW.format(id="b", gpus=-4, end="05"))
    report = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    assert (report.rows, report.rejected_count) == (1, 1)
    params = mlflow_store.client.get_run(report.run_id).data.params
    assert (params["rows"], params["rejected_rows"]) == ("1", "1")
    text = Path(mlflow_store.client.download_artifacts(report.run_id, "rejected.txt", str(tmp_path))).read_text()
    assert text == str(report.rejected[0])


def test_source_that_is_refused_writes_nothing(tmp_path: Path, mlflow_store: Store):
    """A file without a usable row leaves no run, not even a failed one."""
    file = _file(tmp_path, ROW.format(id="a", gpus=-4, end="05"))
    with pytest.raises(InputError, match="has no usable row"):
        telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    assert mlflow_store.client.get_experiment_by_name(TELEMETRY) is None


KILLED = """
import os, signal, sys
from datetime import datetime
from gangplan import telemetry
from gangplan.tracking import Store

def stop(done, total, text):
    if text == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

now = datetime.fromisoformat(sys.argv[4])
telemetry.ingest(sys.argv[1], Store(uri=sys.argv[2]), seed=7, clock=lambda: now, progress=stop)
"""


def test_killed_import_is_never_read_and_can_be_done_again(tmp_path: Path, mlflow_store: Store):
    """Killed when its tables are there already, an import leaves a run that nobody reads; the next starts afresh."""
    file = _file(tmp_path, ROW.format(id="a", gpus=4, end="05"))
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(file),
        mlflow_store.uri,
        "logging the demand's history",
        NOW.isoformat(),
    ]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    experiment = mlflow_store.client.get_experiment_by_name(TELEMETRY)
    assert experiment is not None
    assert [run.info.status for run in mlflow_store.client.search_runs([experiment.experiment_id])] == ["RUNNING"]
    with pytest.raises(NotFoundError):
        telemetry.read_usage(mlflow_store)
    report = telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock)
    assert not report.reused
    assert telemetry.read_usage(mlflow_store).run_id == report.run_id


def test_error_while_writing_leaves_a_failed_run_that_is_not_read(tmp_path: Path, mlflow_store: Store):
    """An interrupted import is marked FAILED."""
    file = _file(tmp_path, ROW.format(id="a", gpus=4, end="05"))

    def interrupt(done: float, total: float, text: str, /) -> None:
        if text == "keeping the table queue":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telemetry.ingest(str(file), mlflow_store, seed=7, clock=_clock, progress=interrupt)
    with pytest.raises(NotFoundError):
        telemetry.read_usage(mlflow_store)


def test_changed_table_in_the_store_is_noticed(tmp_path: Path, mlflow_store: Store):
    """A value changed behind MLflow's back is refused on reading."""
    report = telemetry.ingest(
        str(_file(tmp_path, ROW.format(id="a", gpus=4, end="05"))), mlflow_store, seed=7, clock=_clock
    )
    (table,) = (tmp_path / "mlflow").rglob(f"{report.run_id}/artifacts/tables/demand.parquet")
    pl.read_parquet(table).with_columns(pl.col("gpus") + 1).write_parquet(table)
    with pytest.raises(InputError, match="is not what was logged"):
        telemetry.read_usage(mlflow_store)


def test_history_keeps_the_largest_series_when_there_are_too_many_points(
    tmp_path: Path, mlflow_store: Store, monkeypatch: pytest.MonkeyPatch
):
    """The metrics are bounded, largest series first; the table keeps every point."""
    monkeypatch.setattr(ingestion, "POINTS", 5)
    small = ROW.format(id="b", gpus=1, end="05").replace("search", "risk")
    report = telemetry.ingest(
        str(_file(tmp_path, small, ROW.format(id="a", gpus=4, end="05"))), mlflow_store, seed=7, clock=_clock
    )
    metrics = mlflow_store.client.get_run(report.run_id).data.metrics
    assert set(metrics) == {"demand/search/cost/a100"}
    assert report.usage.demand.select(SERIES).n_unique() == 2


def test_progress_runs_up_to_its_end(tmp_path: Path, mlflow_store: Store):
    """Progress is told with growing parts of a whole, and ends at the whole."""
    told: list[tuple[float, float, str]] = []
    telemetry.ingest(
        str(_file(tmp_path, ROW.format(id="a", gpus=4, end="05"))),
        mlflow_store,
        seed=7,
        clock=_clock,
        progress=lambda done, total, text: told.append((done, total, text)),
    )
    assert all(0 <= done <= total for done, total, _ in told)
    assert told[-1][0] == told[-1][1]
