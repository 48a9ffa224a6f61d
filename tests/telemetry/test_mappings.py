"""Tables of others, by mappings: the public traces as their publishers give them, and one's own."""

# ruff: noqa: E501 - the traces' own lines
from __future__ import annotations

import gzip
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan.errors import InputError
from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Column, Mapping, Reading, read_mapping, shipped
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.values import Telemetry

NOW = datetime(2026, 11, 28, tzinfo=UTC)

HELIOS = """\
job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1425511,uA,vcA,1,1,1,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:41:01,2020-06-10 04:55:09,36848,0
1425512,uB,vcB,4,16,1,FAILED,2020-06-09 18:41:27,2020-06-09 18:41:27,2020-06-09 18:45:36,249,0
1425513,uC,vcC,0,1,1,CANCELLED,2020-06-09 18:41:28,2020-06-09 18:41:28,2020-06-17 14:15:21,675233,0
"""
SEREN = """\
job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue,gpu_time
5778432,u59,1,8,128,Other,FAILED,2023-03-01 00:18:22+08:00,2023-03-01 00:18:54+08:00,2023-03-01 00:20:51+08:00,117,32,936.0
5778469,u59,1,8,128,Other,COMPLETED,2023-03-01 00:23:58+08:00,2023-03-01 00:24:11+08:00,2023-03-01 01:09:04+08:00,2693,13,21544.0
"""
KALOS = """\
job_id,user,node_num,gpu_num,cpu_num,mem_per_pod_GB,shared_mem_per_pod,type,state,submit_time,start_time,end_time,fail_time,stop_time,duration,queue,gpu_time
dlc1,uf,8,64,960,1000,100.0,Other,FAILED,2023-05-17 11:00:58+00:00,2023-05-17 11:01:08+00:00,2023-05-17 14:01:16+00:00,,,18,10.0,1152.0
"""
SPOT = """\
job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type
239255,13,A10,20,1,1,0,2764799,HP
437260,57,A100-SXM4-80GB,15,1,16,9589663,41060,Spot
"""
PAI_TASKS = """\
a,worker,2.0,Terminated,558410.0,565610.0,600.0,29.3,25.0,V100M32
a,ps,1.0,Terminated,558410.0,565610.0,600.0,29.3,,
b,tensorflow,1.0,Running,558411.0,,600.0,29.3,100.0,MISC
c,tensorflow,1.0,Failed,558412.0,,600.0,29.3,100.0,T4
"""
PAI_JOBS = "job_a,inst_a,userA,Terminated,558410.0,558446.0\njob_b,inst_b,userB,Failed,558411.0,\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:19:10,1,1\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n3700.5,ChatGPT,1,1,2,API log\n"
MOONCAKE = '{"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1, 2]}\n{"timestamp": 63052, "input_length": 7319, "output_length": 490, "hash_ids": [0, 3]}\n'


def _read(path: Path, text: str | None = None, **reading: str) -> Telemetry:
    """Read a file as the ingest does."""
    if text is not None:
        path.write_text(text)
    return load(str(path), seed=7, clock=lambda: NOW, progress=no_progress, reading=Reading(**reading))


def _utc(*moment: int) -> datetime:
    """A moment in UTC."""
    return datetime(*moment, tzinfo=UTC)  # pyright: ignore[reportArgumentType]


def test_helios_is_read_in_its_zone(tmp_path: Path):
    """Local times of China; a job without GPUs is left out, and tells how long the export is."""
    read = _read(tmp_path / "cluster_log.csv", HELIOS)
    assert read.jobs.select("job_id", "tenant", "gpus", "submitted_at", "ended_at").rows() == [
        ("1425511", "vcA", 1.0, _utc(2020, 6, 9, 10, 41, 1), _utc(2020, 6, 9, 20, 55, 9)),
        ("1425512", "vcB", 4.0, _utc(2020, 6, 9, 10, 41, 27), _utc(2020, 6, 9, 10, 45, 36)),
    ]
    assert (read.end, read.skipped) == (_utc(2020, 6, 17, 6), 1)
    assert read.notes[0].startswith("cluster_log.csv was read as Helios")
    assert "6 times without an offset were read as times of Asia/Shanghai" in read.notes


def test_a_zone_that_is_named_wins_over_the_mappings(tmp_path: Path):
    """The user knows better."""
    read = _read(tmp_path / "cluster_log.csv", HELIOS, zone="UTC")
    assert read.jobs["submitted_at"][0] == _utc(2020, 6, 9, 18, 41, 1)


@pytest.mark.parametrize(
    ("text", "gpus", "submitted"),
    [(SEREN, 8.0, _utc(2023, 2, 28, 16, 18, 22)), (KALOS, 64.0, _utc(2023, 5, 17, 11, 0, 58))],
)
def test_acme_keeps_its_offsets(text: str, gpus: float, submitted: datetime, tmp_path: Path):
    """Seren's +08:00 and Kalos' +00:00 are exact."""
    read = _read(tmp_path / "trace.csv", text)
    assert read.jobs.select("accelerator", "gpus", "submitted_at").row(0) == ("a100", gpus, submitted)


def test_spot_trace_counts_workers_and_adds_durations(tmp_path: Path):
    """16 workers of one GPU are 16 GPUs for 41,060 seconds, of the class that may be interrupted."""
    read = _read(tmp_path / "job_info_df.csv", SPOT)
    assert read.relative
    assert read.jobs.select("tenant", "workload_class", "accelerator", "gpus").rows() == [
        ("13", "throughput", "a10", 1.0),
        ("57", "cost", "a100", 16.0),
    ]
    spans = read.jobs.select((pl.col("ended_at") - pl.col("submitted_at")).dt.total_seconds())
    assert spans.to_series().to_list() == [2764799, 41060]
    assert "names of accelerator were read plainly (2): 'A10' as a10, 'A100-SXM4-80GB' as a100" in read.notes


def test_pai_tasks_count_shares_of_gpus(tmp_path: Path):
    """Two instances of 25 % are half a GPU; a task without GPUs, and one whose end is not told, are left out by name."""
    read = _read(tmp_path / "pai_task_table.csv", PAI_TASKS)
    assert read.jobs.select("job_id", "accelerator", "gpus").rows() == [
        ("a/worker", "v100m32", 0.5),
        ("b/tensorflow", "misc", 1.0),
    ]
    shanghai = read.jobs["submitted_at"][0].astimezone(UTC) + timedelta(hours=8)
    original = datetime.fromtimestamp(558410, UTC) + timedelta(hours=8)
    assert (shanghai.weekday(), shanghai.time()) == (original.weekday(), original.time())
    assert "1 row left out: they ask for no GPU" in read.notes
    assert "1 row left out: they are over, and their end is not told" in read.notes


def test_pai_jobs_say_which_table_has_the_gpus(tmp_path: Path):
    """The table of jobs is refused alone, and left out with a word beside the table of tasks."""
    with pytest.raises(InputError, match=r"does not say how many GPUs they asked for: give pai_task_table.csv"):
        _read(tmp_path / "pai_job_table.csv", PAI_JOBS)
    (tmp_path / "pai_task_table.csv").write_text(PAI_TASKS)
    assert _read(tmp_path).jobs.height == 2
    assert _read(tmp_path).notes[0].startswith("pai_job_table.csv was left out: it is PAI's table of jobs")


def test_philly_attempts_are_lives(tmp_path: Path):
    """Each attempt holds the GPUs that it names; the next is asked for when it ends; a job never tried is left out."""
    times = [("2017-10-07 01:12:09", "2017-10-07 02:13:23"), ("2017-10-07 02:13:30", None)]
    machines = [{"ip": "m47", "gpus": ["gpu0", "gpu1"]}, {"ip": "m48", "gpus": ["gpu0"]}]
    attempts = [{"start_time": start, "end_time": end, "detail": machines} for start, end in times]
    job = {"status": "Pass", "vc": "ee", "jobid": "app_1", "submitted_time": "2017-10-07 01:11:39", "user": "ce"}
    jobs = [{**job, "attempts": attempts}, {**job, "jobid": "app_2", "attempts": []}]
    read = _read(tmp_path / "cluster_job_log", json.dumps(jobs))
    assert read.jobs.select("job_id", "tenant", "gpus", "submitted_at", "ended_at").rows() == [
        ("app_1", "ee", 3.0, _utc(2017, 10, 7, 8, 11, 39), _utc(2017, 10, 7, 9, 13, 23)),
        ("app_1#2", "ee", 3.0, _utc(2017, 10, 7, 9, 13, 23), None),
    ]
    assert "1 row left out: jobs that were never tried, and do not say how many GPUs they asked for" in read.notes


@pytest.mark.parametrize(
    ("name", "text", "rates"),
    [
        ("code.csv", AZURE, [("code", 0, 2), ("code", 1, 0), ("code", 2, 1)]),
        (
            "burst.csv",
            BURST,
            [("ChatGPT", 0, 1), *(("ChatGPT", n, 0) for n in range(1, 61)), ("ChatGPT", 61, 1), ("GPT-4", 0, 1)],
        ),
        ("toolagent_trace.jsonl", MOONCAKE, [("toolagent_trace", 0, 1), ("toolagent_trace", 1, 1)]),
    ],
)
def test_logs_of_requests_are_counted_by_minute(
    name: str, text: str, rates: list[tuple[str, int, int]], tmp_path: Path
):
    """A minute without a request is a zero; a log alone is telemetry, and says what it is good for."""
    read = _read(tmp_path / name, text)
    first = read.requests["time"].min()
    minute = (pl.col("time") - first).dt.total_minutes()
    count = (pl.col("requests_per_second") * 60).round().cast(pl.Int64)
    assert read.requests.select("tenant", minute, count).rows() == rates
    assert read.rows == text.count("\n") - (not name.endswith("jsonl"))
    assert any(note.startswith("there are requests alone") for note in read.notes)


def test_a_cut_line_of_json_is_kept_out_by_itself(tmp_path: Path):
    """The last line of a log that was being written."""
    read = _read(tmp_path / "log.jsonl", MOONCAKE + '{"timestamp": 70')
    assert (read.rows, [(bad.line, bad.field) for bad in read.rejected]) == (2, [(3, "row")])


def test_a_renamed_column_is_named(tmp_path: Path):
    """Of a file that is nearly Helios', the column that is missing and what was expected."""
    with pytest.raises(
        InputError, match=r"submit_time: .* lacks that column: Helios .*\(mapping helios\) needs job_id"
    ):
        _read(tmp_path / "log.csv", HELIOS.replace("submit_time", "submitted"))
    with pytest.raises(
        InputError, match=r"submit_time: .* lacks that column: Helios .* has that column, and this file has"
    ):
        _read(tmp_path / "log.csv", HELIOS.replace("submit_time", "submitted"), mapping="helios")


OURS = """\
about: our scheduler
times: "%d.%m.%Y %H:%M"
zone: Europe/Berlin
decimal: ","
encoding: cp1252
leave_out:
  - where: {Zustand: [Test]}
    because: tests of the scheduler
columns:
  job_id: Nr
  tenant: Projekt
  workload_class: {constant: throughput}
  accelerator: {column: Knoten, pattern: "^([a-z0-9]+)-"}
  gpus: {column: GPUs, divided_by: 2}
  submitted_at: Eingang
  ended_at: {column: Eingang, plus: Dauer}
"""
TABLE = (
    "Nr;Projekt;Knoten;GPUs;Eingang;Dauer;Zustand\n"
    "1;Bildverstehen;h100-07;1,5;02.11.2026 08:00;7200;fertig\n"
    "2;Prüfstand;h100-08;4;02.11.2026 09:00;3600;Test\n"
    "3;Größe;l4-1;8;02.11.2026 09:00;36000;fertig\n"
)


def test_ones_own_mapping(tmp_path: Path):
    """Form of times, zone, decimal sign, encoding, filter, words, pattern, factor and duration."""
    (tmp_path / "ours.yaml").write_text(OURS)
    table = tmp_path / "jobs.csv"
    table.write_bytes(TABLE.encode("cp1252"))
    read = _read(table, mapping=str(tmp_path / "ours.yaml"))
    assert read.jobs.select("job_id", "tenant", "accelerator", "gpus", "submitted_at", "ended_at").rows() == [
        ("1", "Bildverstehen", "h100", 0.75, _utc(2026, 11, 2, 7), _utc(2026, 11, 2, 9)),
        ("3", "Gr-e", "l4", 4.0, _utc(2026, 11, 2, 8), _utc(2026, 11, 2, 18)),
    ]
    assert "1 row left out: tests of the scheduler" in read.notes
    assert "names of tenant were read plainly (1): 'Größe' as Gr-e" in read.notes


def test_names_that_a_mapping_gives_stay(tmp_path: Path):
    """A word of the mapping is not shortened; of two models that have one short name, it is said."""
    text = SPOT + "3,13,A100-SXM4-40GB,15,1,1,9589663,41060,Spot\n"
    read = _read(tmp_path / "job_info_df.csv", text)
    assert any("(3, of which 1 now as another)" in note for note in read.notes)
    words = "{A100-SXM4-40GB: a100-40gb, A100-SXM4-80GB: a100-80gb, A10: a10}"
    ours = tmp_path / "ours.yaml"
    ours.write_text(f"based_on: spot-gpu\ncolumns:\n  accelerator: {{column: gpu_model, words: {words}}}\n")
    read = _read(tmp_path / "job_info_df.csv", text, mapping=str(ours))
    assert read.jobs["accelerator"].to_list() == ["a10", "a100-80gb", "a100-40gb"]


def test_a_duration_over_a_change_of_clocks_is_as_long_as_it_says(tmp_path: Path):
    """Ten hours from the evening before are ten hours, although the clock shows eleven."""
    (tmp_path / "ours.yaml").write_text(OURS.replace("cp1252", "utf-8").replace('"%d.%m.%Y %H:%M"', "iso"))
    text = TABLE.splitlines()[0] + "\n1;a;l4-1;8;2026-03-28T20:00:00;36000;fertig\n"
    read = _read(tmp_path / "jobs.csv", text, mapping=str(tmp_path / "ours.yaml"))
    assert read.jobs.select("submitted_at", "ended_at").row(0) == (_utc(2026, 3, 28, 19), _utc(2026, 3, 29, 5))


def test_wrong_cells_are_named_as_they_stand_in_the_file(tmp_path: Path):
    """Column, text and line of the user's table, and the other rows are used."""
    (tmp_path / "ours.yaml").write_text(OURS.replace("cp1252", "utf-8"))
    text = TABLE + "4;a;l4-1;vier;02.11.2026 09:00;60;x\n5;a;l4-1;4;2.11.26;60;x\n6;a;l4-1;4;02.11.2026 09:00;lang;x\n"
    read = _read(tmp_path / "jobs.csv", text, mapping=str(tmp_path / "ours.yaml"))
    assert [(bad.line, bad.field, bad.value) for bad in read.rejected] == [
        (5, "GPUs", "vier"),
        (6, "Eingang", "2.11.26"),
        (7, "Eingang", "lang"),
    ]
    assert read.rows == 2


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ("colums: {}", r"colums: .*(unknown|not a known field)"),
        ("table: joobs", "table: 'joobs' is no table of gangplan"),
        ("columns: {gpu: x}", "is no column of jobs"),
        ("times: minutes", "is no form of times"),
        ("zone: Europe/Berln", "is no time zone"),
        ("decimal: ';'", "is no decimal sign"),
        ("columns: {gpus: {colum: x}}", "colum"),
        ("columns: {gpus: {column: x, constant: 1}}", "give one of column, constant and file"),
        ("columns: {gpus: {column: x, pattern: '('}}", "is no regular expression"),
        ("columns: {gpus: {column: x, pattern: 'x'}}", "needs one group"),
        ("based_on: slurm", "based_on: 'slurm' is no mapping that ships"),
        ("since: 2026-03-01T00:00:00", "since"),
        ("count_every: hourly", "is not a duration"),
        (
            "columns: {job_id: Nr, gpus: GPUs}",
            "columns: 'tenant, workload_class, accelerator, submitted_at' is missing",
        ),
        ("- a list", "mapping"),
        ("columns: {job_id: [", "is not YAML"),
    ],
)
def test_a_wrong_mapping_names_its_field(change: str, remedy: str, tmp_path: Path):
    """File, field and remedy; nothing is read."""
    (tmp_path / "ours.yaml").write_text(change + "\n")
    with pytest.raises(InputError, match=remedy) as refused:
        _read(tmp_path / "jobs.csv", TABLE, mapping=str(tmp_path / "ours.yaml"))
    assert "ours.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_mapping_that_is_not_there_names_the_nearest():
    """A slip of the pen."""
    with pytest.raises(InputError, match=r"did you mean helios\? give a file, or one of acme"):
        read_mapping("helois")
    with pytest.raises(InputError, match="is not there"):
        read_mapping("ours.yaml")


def test_shipped_mappings_are_whole():
    """Each says what it is of and where that comes from, and reads or refuses."""
    for name, mapping in shipped().items():
        assert mapping.about, name
        assert mapping.source.startswith("https://"), name
        assert mapping.columns or mapping.refuse, name
        assert mapping.recognised_by or mapping.files, name


def test_mapped_tables_stand_beside_ones_own(tmp_path: Path):
    """A folder with accounting of another kind and a table of requests of gangplan's own form."""
    (tmp_path / "cluster_log.csv.gz").write_bytes(gzip.compress(HELIOS.encode()))
    (tmp_path / "requests.csv").write_text("time,tenant,requests_per_second\n2020-06-10T00:00:00Z,chat,2.5\n")
    read = _read(tmp_path)
    assert (read.jobs.height, read.requests.height) == (2, 1)


def test_documented_mappings_and_fields_are_those_that_there_are():
    """docs/telemetry.md names every mapping that reads, and every field of a mapping and of its columns."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "telemetry.md").read_text()
    others, own = page.partition("## Tables of others")[2], page.partition("## A mapping of your own")[2]
    for name in (name for name, mapping in shipped().items() if not mapping.refuse):
        assert f"| `{name}` |" in others, name
    for field in (*fields(Mapping), *fields(Column)):
        assert f"`{field.name}" in own, field.name
