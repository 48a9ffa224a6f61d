"""Slurm's accounting: which rows are jobs, which GPUs they asked for, and from when to when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.values import Telemetry

NOW = datetime(2026, 11, 28, tzinfo=UTC)
HEADER = "JobID|JobName|User|Account|Partition|QOS|Submit|Start|End|State|ReqTRES|AllocTRES|NodeList|ExitCode"
SACCT = """\
90001|pretrain|u1001|vision|gpu|normal|2026-11-02T08:00:00|2026-11-02T08:20:00|2026-11-02T20:20:00|COMPLETED|billing=64,cpu=64,gres/gpu=8,mem=512G,node=2|billing=64,cpu=64,gres/gpu:a100=8,gres/gpu=8,mem=512G,node=2|gpu[01-02]|0:0
90001.batch|batch||vision||||2026-11-02T08:20:00|2026-11-02T20:20:00|COMPLETED||cpu=32,gres/gpu:a100=4,gres/gpu=4,mem=256G,node=1|gpu01|0:0
90001.extern|extern||vision||||2026-11-02T08:20:00|2026-11-02T20:20:00|COMPLETED||billing=64,cpu=64,gres/gpu:a100=8,gres/gpu=8,mem=512G,node=2|gpu[01-02]|0:0
90002_7|sweep|u1002|language|gpu|low|2026-11-02T09:00:00|2026-11-02T09:01:00|Unknown|RUNNING|billing=8,cpu=8,gres/gpu=1,mem=64G,node=1|billing=8,cpu=8,gres/gpu:a100=1,gres/gpu=1,mem=64G,node=1|gpu03|0:0
90002_[8-63%4]|sweep|u1002|language|gpu|low|2026-11-02T09:00:00|Unknown|Unknown|PENDING|billing=8,cpu=8,gres/gpu=1,mem=64G,node=1||None assigned|0:0
90003|eval|u1003|search|gpu|normal|2026-11-02T10:00:00|None|2026-11-02T10:05:00|CANCELLED by 4001|billing=32,cpu=32,gres/gpu=4,mem=256G,node=1||None assigned|0:0
90004|prep|u1003|search|cpu|normal|2026-11-02T10:00:00|2026-11-02T10:00:30|2026-11-02T11:00:00|COMPLETED|billing=16,cpu=16,mem=64G,node=1|billing=16,cpu=16,mem=64G,node=1|cpu07|0:0
90005|train|u1004|vision|gpu|preempt|2026-11-02T11:00:00|2026-11-02T11:10:00|2026-11-02T13:00:00|PREEMPTED|billing=32,cpu=32,gres/gpu=4,mem=256G,node=1|billing=32,cpu=32,gres/gpu:a100=4,gres/gpu=4,mem=256G,node=1|gpu04|0:0
90005|train|u1004|vision|gpu|preempt|2026-11-02T13:00:00|2026-11-02T15:00:00|2026-11-03T03:00:00|TIMEOUT|billing=32,cpu=32,gres/gpu=4,mem=256G,node=1|billing=32,cpu=32,gres/gpu:a100=4,gres/gpu=4,mem=256G,node=1|gpu05|0:0
"""  # noqa: E501 - as sacct prints it


def _at(day: int, hour: int, minute: int = 0) -> datetime:
    """A moment of November 2026."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def _read(text: str, folder: Path, *, name: str = "sacct.txt", zone: str = "UTC", mapping: str = "") -> Telemetry:
    """Read accounting as the ingest does."""
    (folder / name).write_text(text)
    reading = Reading(zone=zone, mapping=mapping)
    return load(str(folder / name), seed=7, clock=lambda: NOW, progress=no_progress, reading=reading)


def _rows(*rows: str) -> str:
    """Accounting of rows `id|submit|start|end|state|tres`."""
    return "\n".join(["JobID|Submit|Start|End|State|AllocTRES|Account", *(f"{row}|vision" for row in rows)]) + "\n"


def _hour(read: Telemetry, at: datetime) -> dict[tuple[str, str], float]:
    """The demand of an hour by tenant and accelerator, without zeros."""
    rows = read.demand.filter(pl.col("hour") == at, pl.col("gpus") > 0)
    return {(tenant, kind): gpus for tenant, kind, gpus in rows.select("tenant", "accelerator", "gpus").iter_rows()}


def test_accounting_as_it_comes_is_read(tmp_path: Path):
    """Steps and CPU jobs are left out and counted; lives, arrays and ends that are not known are what they were."""
    read = _read(f"{HEADER}\n{SACCT}", tmp_path)
    assert read.jobs.select(
        "job_id", "tenant", "accelerator", "gpus", "submitted_at", "started_at", "ended_at"
    ).rows() == [
        ("90001", "vision", "a100", 8.0, _at(2, 8), _at(2, 8, 20), _at(2, 20, 20)),
        ("90002_7", "language", "a100", 1.0, _at(2, 9), _at(2, 9, 1), None),
        ("90002_[8-63%4]", "language", "any", 3.0, _at(2, 9), None, None),
        ("90003", "search", "any", 4.0, _at(2, 10), None, _at(2, 10, 5)),
        ("90005", "vision", "a100", 4.0, _at(2, 11), _at(2, 11, 10), _at(2, 13)),
        ("90005#2", "vision", "a100", 4.0, _at(2, 13), _at(2, 15), _at(3, 3)),
    ]
    assert (read.rejected_count, read.skipped) == (0, 3)
    assert _hour(read, _at(2, 10)) == {
        ("vision", "a100"): 8,
        ("language", "a100"): 1,
        ("language", "any"): 3,
        ("search", "any"): pytest.approx(4 / 12, abs=1e-6),
    }
    assert _hour(read, _at(2, 13))["vision", "a100"] == 12
    said = "\n".join(read.notes)
    assert "2 rows left out: steps of jobs" in said
    assert "1 row left out: jobs without GPUs" in said
    assert "requeued jobs (1): each of their lives counts as a job, 2 in all" in said
    assert "waiting arrays (1) with tasks that have not begun (56); their limits (%) let 3 more run at once" in said
    assert "2 rows without an accelerator: counted as 'any'" in said


@pytest.mark.parametrize("name", ["sacct.txt", "sacct.csv", "folder/sacct.txt"])
def test_name_of_the_file_does_not_matter(name: str, tmp_path: Path):
    """Accounting is known by its header, also within a folder beside notes of other kinds."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("to do\n")
    read = _read(f"{HEADER}\n{SACCT}", tmp_path, name=name)
    if "/" in name:
        read = load(
            str(tmp_path / "folder"), seed=7, clock=lambda: NOW, progress=no_progress, reading=Reading(zone="UTC")
        )
        assert any(note.startswith("notes.txt was left out") for note in read.notes)
    assert read.jobs.height == 6


def test_local_times_need_their_zone(tmp_path: Path):
    """Slurm prints local times: without a zone nothing is read, and the remedy is named."""
    with pytest.raises(InputError, match=r"sacct.txt line 2: Submit: .* has no time zone: .* --zone Europe/Berlin"):
        _read(f"{HEADER}\n{SACCT}", tmp_path, zone="")
    read = _read(f"{HEADER}\n{SACCT}", tmp_path, zone="Europe/Berlin")
    assert read.jobs["submitted_at"].min() == _at(2, 7)
    assert "times without an offset were read as times of Europe/Berlin" in "\n".join(read.notes)


@pytest.mark.parametrize("form", ["%s", "%Y-%m-%dT%H:%M:%S%z"])
def test_times_of_another_slurm_time_format_need_no_zone(form: str, tmp_path: Path):
    """SLURM_TIME_FORMAT may print seconds since 1970, or the offset: both are exact."""
    start = _at(2, 8)
    times = [start, start + timedelta(minutes=5), start + timedelta(hours=3)]
    said = [str(int(each.timestamp())) if form == "%s" else each.strftime(form) for each in times]
    read = _read(_rows("|".join(["1", *said, "COMPLETED", "gres/gpu=8"])), tmp_path, zone="")
    assert read.jobs.select("submitted_at", "started_at", "ended_at").row(0) == tuple(times)


def _life(job: str, tres: str = "gres/gpu:h100=8,gres/gpu=8", state: str = "COMPLETED") -> str:
    """A job from 8 to 12 o'clock."""
    return f"{job}|2026-11-02T08:00:00|2026-11-02T08:00:00|2026-11-02T12:00:00|{state}|{tres}"


@pytest.mark.parametrize(
    ("tres", "asked"),
    [
        ("cpu=4,gres/gpu=2", {("vision", "any"): 2}),
        ("gres/gpu:h100=8", {("vision", "h100"): 8}),
        ("gres/gpu:nvidia_h100_80gb_hbm3=8,gres/gpu=8", {("vision", "h100"): 8}),
        ("gres/gpu:a100=4,gres/gpu:h100=2,gres/gpu=6", {("vision", "a100"): 4, ("vision", "h100"): 2}),
        ("gres/gpu:a100_3g.20gb=7,gres/gpu=7", {("vision", "a100"): 3.5}),
        ("gres/gpu:a100_1g.5gb=7", {("vision", "a100"): 1}),
        ("gres/gpu:nvidia_a100_80gb_pcie_1g.20gb=4", {("vision", "a100"): 1}),
        ("gres/gpu:a30_1g.6gb=4,gres/gpu:h100_2g.20gb=3", {("vision", "a30"): 1, ("vision", "h100"): 1}),
        ("gres/gpumem=40G,gres/gpuutil=97,gres/gpu=1", {("vision", "any"): 1}),
    ],
)
def test_gpus_are_read_from_tres(tres: str, asked: dict[tuple[str, str], float], tmp_path: Path):
    """Typed and untyped, two types in one job, MIG instances as parts of a GPU; memory and utilisation are no GPUs."""
    read = _read(_rows(_life("1", tres)), tmp_path)
    assert _hour(read, _at(2, 9)) == pytest.approx(asked)


def test_jobs_on_shards_are_left_out_by_name(tmp_path: Path):
    """A shard's share of a GPU does not stand in the accounting."""
    read = _read(_rows(_life("1"), _life("2", "gres/shard=4")), tmp_path)
    assert "1 row left out: jobs on shards of a GPU, whose share sacct does not tell" in read.notes


def test_second_export_of_the_same_jobs_counts_once(tmp_path: Path):
    """Of a job told while it waited, while it ran and after its end, the row with the end counts."""
    waits = "1|2026-11-02T08:00:00|Unknown|Unknown|PENDING|gres/gpu=8"
    runs = "1|2026-11-02T08:00:00|2026-11-02T09:00:00|Unknown|RUNNING|gres/gpu=8"
    over = "1|2026-11-02T08:00:00|2026-11-02T09:00:00|2026-11-02T12:00:00|COMPLETED|gres/gpu=8"
    read = _read(_rows(over, waits, runs, _life("2")), tmp_path)
    assert read.jobs.select("job_id", "ended_at").rows() == [("1", _at(2, 12)), ("2", _at(2, 12))]
    assert "2 rows left out: they tell a job again" in "\n".join(read.notes)


def test_het_jobs_and_clusters_are_jobs_of_their_own(tmp_path: Path):
    """Components of a het job, and the same number on two clusters, add up."""
    text = "Cluster|" + _rows("a|" + _life("7+0"), "a|" + _life("7+1"), "b|" + _life("7+0"))
    read = _read(text, tmp_path)
    assert read.jobs["job_id"].to_list() == ["a/7+0", "a/7+1", "b/7+0"]
    assert _hour(read, _at(2, 9)) == {("vision", "h100"): 24}


@pytest.mark.parametrize(("tasks", "gpus"), [("1-4", 4), ("1-4,7,10-20:2", 11), ("0-99%10", 10), ("5", 1)])
def test_waiting_arrays_count_their_tasks(tasks: str, gpus: int, tmp_path: Path):
    """As many as wait, or as their limit lets run at once."""
    waits = f"12_[{tasks}]|2026-11-02T08:00:00|Unknown|Unknown|PENDING|gres/gpu=1"
    read = _read(_rows(waits, _life("13", "gres/gpu:h100=8")), tmp_path)
    assert _hour(read, _at(2, 9))["vision", "any"] == gpus


def test_a_job_that_is_over_and_has_no_end_is_kept_out_by_name(tmp_path: Path):
    """It does not run for ever."""
    read = _read(_rows("1|2026-11-02T08:00:00|2026-11-02T08:00:00|Unknown|FAILED|gres/gpu=8", _life("2")), tmp_path)
    assert [(bad.line, bad.field) for bad in read.rejected] == [(2, "End")]
    assert read.jobs["job_id"].to_list() == ["2"]


def test_the_export_reaches_to_the_last_time_of_any_row(tmp_path: Path):
    """A job that runs holds its GPUs to the end of the export, which a job without GPUs may tell."""
    runs = "1|2026-11-02T08:00:00|2026-11-02T08:00:00|Unknown|RUNNING|gres/gpu=8"
    cpu = "2|2026-11-02T08:00:00|2026-11-02T08:00:00|2026-11-03T08:00:00|COMPLETED|cpu=1"
    read = _read(_rows(runs, cpu), tmp_path)
    assert (read.start, read.end) == (_at(2, 8), _at(3, 9)), "to the end of the hour of the last time"
    assert read.demand["gpus"].to_list() == [8.0] * 25
    assert read.jobs["ended_at"].null_count() == 1


def test_bars_at_the_ends_of_lines_are_no_columns(tmp_path: Path):
    """`sacct -p` ends each line with a bar."""
    text = f"{HEADER}\n{SACCT}"
    read = _read(text.replace("\n", "|\n"), tmp_path)
    assert read.rejected_count == 0
    assert read.jobs.equals(_read(text, tmp_path).jobs)


def test_a_bar_or_a_quote_in_a_name_spoils_no_other_row(tmp_path: Path):
    """sacct quotes nothing: a bar in a job's name makes one wrong row, a quote is a letter."""
    good = SACCT.splitlines()[0]
    text = "\n".join([HEADER, good, good.replace("pretrain", "pre|train"), good.replace("90001|pre", '90009|"pre')])
    read = _read(text, tmp_path)
    assert read.jobs["job_id"].to_list() == ["90001", "90009"]
    assert [(bad.line, bad.value) for bad in read.rejected] == [(3, "15 fields where the header has 14")]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('{\n "jobs": [{"job_id": 1}]\n}\n', "is JSON without an object in each line: .* sacct -P"),
        ("JobID|Submit|Start|End|Account\n1|a|b|c|d\n", "AllocTRES: .* lacks that column"),
        (
            "JobID|JobName|Partition|Account|AllocCPUS|State|ExitCode\n1|a|b|c|1|d|0:0\n",
            "is sacct's, without the columns that are needed",
        ),
        (
            "JobID           JobName  Partition    Account\n------- ---- ---- ----\n",
            "is sacct's table for people: call it with -P",
        ),
        ("JobID|Submit|Begin|End|AllocTRES|Account\n1|a|b|c|d|e\n", "Start: .* lacks that column: Slurm's accounting"),
    ],
)
def test_what_accounting_lacks_is_named(text: str, remedy: str, tmp_path: Path):
    """Other formats of sacct say how to call it."""
    with pytest.raises(InputError, match=remedy):
        _read(text, tmp_path)


def test_a_mapping_based_on_sacct_tells_classes_and_tenants(tmp_path: Path):
    """A few lines of one's own: the quality of service is the class, the user the tenant."""
    mapping = tmp_path / "ours.yaml"
    mapping.write_text(
        "based_on: sacct\nzone: Europe/Berlin\ncolumns:\n  tenant: User\n"
        "  workload_class: {column: QOS, words: {low: cost, preempt: cost}, otherwise: throughput}\n"
    )
    read = _read(f"{HEADER}\n{SACCT}", tmp_path, zone="", mapping=str(mapping))
    assert read.jobs.select("tenant", "workload_class").unique(maintain_order=True).rows() == [
        ("u1001", "throughput"),
        ("u1002", "cost"),
        ("u1003", "throughput"),
        ("u1004", "cost"),
    ]
