"""Tables of others, whatever is wrong in them or in their mapping, are read right or named: sacct, mappings, traces.

1,500 inputs are tried in a long run, a few in a short one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from tests.telemetry import test_mappings as published
from tests.telemetry.malformed import BAD_MOMENTS, damaged, loaded, mutated, tries

from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.values import Telemetry
from gangplan.testing import NOW

Meant = tuple[str, str, float, datetime, datetime | None, datetime | None]
"""What a job is: tenant, accelerator, GPUs, when it was submitted, began and ended."""

FIELDS = ("tenant", "accelerator", "gpus", "submitted_at", "started_at", "ended_at")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one input at a time."""
    return tmp_path_factory.mktemp("malformed")


@dataclass
class Draft:
    """A table that is being drawn: its rows, the jobs that it means, the rows with a fault, and those of no use."""

    rows: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    meant: dict[str, Meant] = field(default_factory=dict[str, Meant])
    wrong: int = 0
    of_no_use: int = 0

    def spoil(self, random: Random, bad: dict[str, list[str]]) -> None:
        """Put a wrong text into a row, now and then; the row means nothing then."""
        for row in self.rows:
            waits = row.get("State") == "PENDING"  # whose start nobody reads: Slurm only expects it then
            columns = [column for column in bad if column in row and not (waits and column == "Start")]
            if random.random() < 0.15 and row["id"] in self.meant:
                column = random.choice(columns)
                row[column] = random.choice(bad[column])
                del self.meant[row["id"]]
                self.wrong += 1


def _assert_right_or_named(read: Telemetry | None, draft: Draft) -> None:
    """Each job that was read is as it was meant; each other row is counted as wrong or as of no use."""
    if read is None:
        return
    found = {row[0]: row[1:] for row in read.jobs.select("job_id", *FIELDS).iter_rows()}
    for job, values in found.items():
        assert job in draft.meant, (job, values, read.notes)
        tenant, accelerator, gpus, *times = draft.meant[job]
        assert values == (tenant, accelerator, pytest.approx(gpus), *times)
    lost = len(draft.meant.keys() - found.keys())
    assert lost + draft.wrong + draft.of_no_use <= read.rejected_count + read.skipped, read.notes
    assert len(found) + read.rejected_count + read.skipped == len(draft.rows), read.notes


def _times(random: Random) -> tuple[datetime, datetime | None, datetime | None]:
    """Draw when a job was submitted, began and ended; it may wait or run."""
    submitted = NOW - timedelta(minutes=random.randint(600, 6000))
    started = None if random.random() < 0.1 else submitted + timedelta(minutes=random.randint(0, 200))
    over = started is not None and random.random() < 0.8
    return submitted, started, started + timedelta(minutes=random.randint(1, 300)) if over and started else None


SLURM = ZoneInfo("Europe/Berlin")
TRES: dict[str, tuple[str, float]] = {
    "billing=64,cpu=64,gres/gpu=8,mem=512G,node=2": ("any", 8),
    "cpu=4,gres/gpu:h100=4,gres/gpu=4": ("h100", 4),
    "cpu=4,gres/gpu:nvidia_h100_80gb_hbm3=4": ("h100", 4),
    "gres/gpu:a100_3g.20gb=7,gres/gpu=7": ("a100", 3.5),
    "cpu=16,mem=64G": ("", 0),
    "gres/shard=4": ("", 0),
}
BAD_ACCOUNTING = {
    "Submit": ["", "None", *BAD_MOMENTS],
    "Start": [moment for moment in BAD_MOMENTS if moment],
    "AllocTRES": [
        "gres/gpu=x",
        "gres/gpu=-1",
        f"gres/gpu={'9' * 30}",
        "gres/gpu=1e3",
        "gres/gpu:h100=",
        "gres/gpu=8.5",
    ],
}


def _accounting(random: Random) -> Draft:
    """Draw Slurm's accounting: jobs, steps, jobs without GPUs, waiting arrays, and odd rows."""
    draft = Draft()
    for number in range(random.randint(1, 10)):
        submitted, started, ended = _times(random)
        tres = random.choice(list(TRES))
        accelerator, gpus = TRES[tres]
        job = f"{900 + number}"
        tasks = random.choice(["", "", "", "1-4", "0-9%3", "7,9", "1-10:3"]) if started is None else ""
        job += f"_[{tasks}]" if tasks else random.choice(["", "", "_7", "+1"])
        gpus *= {"": 1, "1-4": 4, "0-9%3": 3, "7,9": 2, "1-10:3": 4}[tasks]
        state = "PENDING" if started is None else "COMPLETED" if ended else "RUNNING"
        row = {"JobID": job, "Account": "vision", "State": state, "AllocTRES": tres, "id": job}
        row |= {"Submit": _local(submitted), "Start": _local(started), "End": _local(ended)}
        draft.rows.append(row)
        if gpus:
            draft.meant[job] = ("vision", accelerator, gpus, submitted, started, ended)
        else:
            draft.of_no_use += 1
        if random.random() < 0.2:
            draft.rows.append({**row, "JobID": f"{job}.batch", "id": ""})
            draft.of_no_use += 1
    draft.spoil(random, BAD_ACCOUNTING)
    if random.random() < 0.2:  # arrays that no Slurm prints
        odd = random.choice(["1-4:0", "9-1", f"0-{'9' * 30}", "", "a-b", f"1-4%{'9' * 30}", "1-4%0"])
        job = f"777_[{odd}]"
        draft.rows.append({**draft.rows[0], "JobID": job, "State": "PENDING", "Start": "", "End": "", "id": job})
        draft.rows[-1]["AllocTRES"] = "gres/gpu=1"
        draft.wrong += 1
    return draft


def _local(moment: datetime | None) -> str:
    """Write a time as Slurm does, by the clock of the cluster."""
    return "Unknown" if moment is None else f"{moment.astimezone(SLURM):%Y-%m-%dT%H:%M:%S}"


def _write(file: Path, draft: Draft, random: Random, delimiter: str) -> None:
    """Write a table as some program does: the order of the columns, the ends of lines, and a column more."""
    columns = [column for column in draft.rows[0] if column != "id"]
    random.shuffle(columns)
    more = [*columns, "Note"] if random.random() < 0.3 else columns
    bar = delimiter if random.random() < 0.2 else ""
    lines = [more, *([row.get(column, "x y") for column in more] for row in draft.rows)]
    text = random.choice(["\n", "\r\n"]).join(delimiter.join(line) + bar for line in lines) + "\n"
    file.write_bytes(text.encode(random.choice(["utf-8", "utf-8", "utf-8-sig"])))


@tries(40, 500)
def test_accounting_of_slurm(seed: int, folder: Path) -> None:
    """Jobs, steps and arrays of sacct with wrong times, GPUs and ranges; then bytes that were damaged."""
    random = Random(seed)
    draft, file = _accounting(random), folder / "sacct.txt"
    _write(file, draft, random, "|")
    zone = Reading(zone=SLURM.key)
    _assert_right_or_named(loaded(str(file), zone), draft)
    file.write_bytes(damaged(random, file.read_bytes()))
    loaded(str(file), zone)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a mapping says that times are written, and how they are then."""

    said: dict[str, Any]
    write: Callable[[datetime], str]


FORMS = (
    Form(said={}, write=lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}"),
    Form(said={"times": "seconds"}, write=lambda at: f"{at.timestamp():.0f}"),
    Form(said={"times": "milliseconds"}, write=lambda at: f"{at.timestamp() * 1000:.0f}"),
    Form(
        said={"times": "seconds", "since": "2026-01-01T00:00:00Z"},
        write=lambda at: f"{at.timestamp() - datetime.fromisoformat('2026-01-01T00:00:00Z').timestamp():.0f}",
    ),
    Form(
        said={"times": "%d.%m.%Y %H:%M:%S", "zone": "Asia/Shanghai"},
        write=lambda at: f"{at.astimezone(ZoneInfo('Asia/Shanghai')):%d.%m.%Y %H:%M:%S}",
    ),
)
BAD_CELLS = {
    "Begun": [*BAD_MOMENTS, "1e400", "-1e400", "NaN", "8500000000000"],
    "Asked": ["", *BAD_MOMENTS, "1e400", "inf"],
    "Cards": ["", "x", "nan", "-2", "1e400", "0x8", "9" * 400],
    "Lasts": ["x", "nan", "-5", "inf", "9" * 40, "8500000000000"],
    "Kind": ["nothing known"],
}


def _mapped(random: Random) -> tuple[Draft, dict[str, Any], str]:
    """Draw a table of somebody's own, its mapping, and the delimiter."""
    form, halved, worked = random.choice(FORMS), random.random() < 0.5, random.random() < 0.5
    columns: dict[str, Any] = {
        "job_id": "Nr",
        "tenant": {"column": ["Project", "Owner"]},
        "workload_class": {"column": "Kind", "words": {"train": "throughput", "serve": "latency"}},
        "accelerator": {"column": "Node", "pattern": "^([a-z0-9]+)-"},
        "gpus": {"column": "Cards", "divided_by": 2 if halved else 1},
        "submitted_at": "Asked",
        "started_at": "Begun",
        "ended_at": {"column": "Begun", "plus": "Lasts"},
    }
    if worked:
        columns["gpus"]["multiplied_by"] = "Workers"
    draft = Draft()
    for number in range(random.randint(1, 8)):
        submitted, started, _ = _times(random)
        started = started or submitted
        lasts, cards, workers = random.randint(60, 20_000), random.choice([1, 2, 8]), random.choice([1, 3])
        model = random.choice(["h100", "l4"])
        row = {"Nr": f"n{number}", "id": f"n{number}", "Project": random.choice(["", "vision"]), "Owner": "vision"}
        row |= {"Kind": random.choice(["train", "serve"]), "Node": f"{model}-07", "Cards": f"{cards}"}
        row |= {"Asked": form.write(submitted), "Begun": form.write(started), "Lasts": f"{lasts}"}
        row |= {"Workers": f"{workers}", "State": random.choice(["done", "done", "test"])}
        draft.rows.append(row)
        if row["State"] == "test":
            draft.of_no_use += 1
        else:
            gpus = cards / (2 if halved else 1) * (workers if worked else 1)
            draft.meant[row["id"]] = ("vision", model, gpus, submitted, started, started + timedelta(seconds=lasts))
    draft.spoil(random, BAD_CELLS)
    leave_out = [{"where": {"State": ["test"]}, "because": "tests"}]
    return draft, {**form.said, "columns": columns, "leave_out": leave_out}, random.choice([",", ";", "\t", "|"])


@tries(40, 400)
def test_tables_of_ones_own(seed: int, folder: Path) -> None:
    """Forms of times, factors, words, patterns and durations of a mapping file, with wrong cells; damaged bytes."""
    random = Random(seed)
    draft, mapping, delimiter = _mapped(random)
    file, said = folder / "jobs.csv", folder / "ours.yaml"
    said.write_text(yaml.safe_dump(mapping))
    _write(file, draft, random, delimiter)
    _assert_right_or_named(loaded(str(file), Reading(mapping=str(said))), draft)
    file.write_bytes(damaged(random, file.read_bytes()))
    loaded(str(file), Reading(mapping=str(said)))


@tries(30, 300)
def test_mapping_files(seed: int, folder: Path) -> None:
    """Mappings with wrong or missing parts, and damaged bytes: refused by name, or they read what they say."""
    random = Random(seed)
    draft, mapping, delimiter = _mapped(random)
    file, said = folder / "jobs.csv", folder / "ours.yaml"
    _write(file, draft, random, delimiter)
    text = yaml.safe_dump(mutated(random, mapping)).encode()
    said.write_bytes(damaged(random, text) if random.random() < 0.3 else text)
    loaded(str(file), Reading(mapping=str(said)))


TRACES = {
    "cluster_log.csv": published.HELIOS,
    "trace_seren.csv": published.SEREN,
    "trace_kalos.csv": published.KALOS,
    "job_info_df.csv": published.SPOT,
    "pai_task_table.csv": published.PAI_TASKS,
    "code.csv": published.AZURE,
    "burst.csv": published.BURST,
    "toolagent_trace.jsonl": published.MOONCAKE,
}
ODD = ("", "x", "-1", "nan", "1e400", "9" * 400, "\u00e4", '"', "2026-13-01", "0001-01-01 00:00:00", "{", "|", "None")


@tries(30, 300)
def test_public_traces(seed: int, folder: Path) -> None:
    """Files of the publishers with wrong cells or damaged bytes; Philly's attempts with wrong parts."""
    random = Random(seed)
    name = random.choice([*TRACES, "cluster_job_log"])
    file = folder / name
    if name in TRACES:
        lines = [line.split(",") for line in TRACES[name].splitlines()]
        for _ in range(random.randint(0, 3)):
            line = random.choice(lines)
            line[random.randrange(len(line))] = random.choice(ODD)
        raw = "\n".join(",".join(line) for line in lines).encode()
    else:
        attempts = [{"start_time": "2017-10-07 01:12:09", "end_time": None, "detail": [{"ip": "m", "gpus": ["g0"]}]}]
        job = {"status": "Pass", "vc": "ee", "jobid": "app_1", "submitted_time": "2017-10-07 01:11:39", "user": "ce"}
        raw = json.dumps(mutated(random, [{**job, "attempts": attempts}])).encode()
    file.write_bytes(damaged(random, raw) if random.random() < 0.4 else raw)
    loaded(str(file))
    file.unlink()
