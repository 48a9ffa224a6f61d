"""Whatever comes in is read right or named: no traceback, no hang, nothing changed in silence.

1,500 inputs are tried in a long run, a few in a short one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from tests.telemetry.malformed import (
    COLUMNS,
    Job,
    damaged,
    draw_faults,
    draw_jobs,
    draw_rendering,
    loaded,
    tried,
    tries,
    write_table,
)

from gangplan.telemetry.calendars import Window, read_calendar
from gangplan.telemetry.values import Telemetry
from gangplan.testing import NOW


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one input at a time."""
    return tmp_path_factory.mktemp("malformed")


def _assert_right_or_named(read: Telemetry | None, jobs: list[Job], wrong: set[str]) -> None:
    """Each job that was read is as it was written; each other one is counted; the demand is that of the jobs."""
    if read is None:
        return
    meant = {job[0]: job for job in jobs}
    for row in read.jobs.select(COLUMNS).iter_rows():
        assert row == meant[row[0]]
        assert row[0] not in wrong
    kept = set(read.jobs["job_id"])
    assert len(meant.keys() - kept) <= read.rejected_count + read.skipped, read.notes
    held = ((job[4], min(job[7], read.end) - max(job[5], read.start)) for job in jobs if job[0] in kept)
    asked = sum(gpus * max(span / timedelta(hours=1), 0) for gpus, span in held)
    assert read.demand["gpus"].sum() == pytest.approx(asked, rel=1e-4, abs=1e-4)  # each hour is rounded


@tries(60, 700)
def test_tables_of_text(seed: int, folder: Path) -> None:
    """Delimiters, encodings, forms of times and numbers, and rows with faults."""
    random = Random(seed)
    jobs, how = draw_jobs(random), draw_rendering(random)
    rows, wrong = draw_faults(random, jobs, how)
    file = folder / f"jobs{how.ending}"
    write_table(file, rows, how)
    _assert_right_or_named(loaded(str(file)), jobs, wrong)


@tries(25, 300)
def test_damaged_tables(seed: int, folder: Path) -> None:
    """Bytes that were changed or lost, in text, in gzip and in Parquet."""
    random = Random(seed)
    jobs, how = draw_jobs(random), draw_rendering(random)
    file = folder / random.choice(["jobs.csv", "jobs.csv.gz", "jobs.parquet", "jobs.jsonl"])
    frame = pl.DataFrame(jobs, schema=list(COLUMNS), orient="row")
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    elif file.suffix == ".jsonl":
        frame.write_ndjson(file)
    else:
        write_table(file, draw_faults(random, jobs, how)[0], how)
    file.write_bytes(damaged(random, file.read_bytes()))
    loaded(str(file))


@tries(25, 200)
def test_typed_tables(seed: int, folder: Path) -> None:
    """Parquet and JSON lines with columns of many types: times in any zone and unit, numbers as text, missing ones."""
    random = Random(seed)
    jobs = draw_jobs(random)
    frame = pl.DataFrame(jobs, schema=list(COLUMNS), orient="row")
    for column in ("submitted_at", "started_at", "ended_at"):
        frame = frame.with_columns(
            random.choice(
                [
                    pl.col(column),
                    pl.col(column),
                    pl.col(column).dt.cast_time_unit("ms"),
                    pl.col(column).dt.cast_time_unit("ns"),
                    pl.col(column).dt.convert_time_zone("Europe/Berlin"),
                    pl.col(column).dt.convert_time_zone("Asia/Kathmandu"),
                    pl.col(column).dt.convert_time_zone("Europe/Berlin").dt.replace_time_zone(None),
                    pl.col(column).dt.epoch("s"),
                    pl.col(column).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
                ]
            )
        )
    for column in ("tenant", "workload_class", "accelerator", "gpus"):
        kind = pl.col(column)
        odd = [
            kind,
            kind,
            kind.cast(pl.String),
            kind.cast(pl.String).cast(pl.Categorical),
            kind.cast(pl.String).cast(pl.Binary),
        ]
        frame = frame.with_columns(random.choice(odd))
    left_out = random.choice([*[""] * 10, "tenant", "gpus", "submitted_at"])
    columns = [column for column in frame.columns if column != left_out]
    frame = frame.select(random.sample(columns, len(columns)))
    file = folder / random.choice(["jobs.parquet", "jobs.parquet", "jobs.jsonl"])
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    else:
        frame.with_columns(pl.col(pl.Binary).cast(pl.String)).write_ndjson(file)
    _assert_right_or_named(loaded(str(file)), jobs, set())


Told = dict[str, tuple[datetime, datetime, str]]
"""Start, end and kind of events by their identifiers."""


def _draw_calendar(random: Random) -> tuple[str, Told]:
    """Draw a calendar as a program might write it, and the events that it means."""
    told: Told = {}
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//made up//EN"]
    if random.random() < 0.5:
        lines.append("X-WR-TIMEZONE:Europe/Berlin")
    for number in range(random.randint(1, 6)):
        start = (NOW + timedelta(minutes=random.randint(-40_000, 20_000))).replace(second=0, microsecond=0)
        length, kind = timedelta(minutes=random.randint(1, 4000)), random.choice(["release", "campaign"])
        local = start + timedelta(hours=1)
        begun = random.choice(
            [
                f"DTSTART:{start:%Y%m%dT%H%M%SZ}",
                f"DTSTART;TZID=Etc/GMT-1:{local:%Y%m%dT%H%M%S}",
                f'DTSTART;TZID="GMT+0100":{local:%Y%m%dT%H%M%S}',
                f"DTSTART;TZID=/example.org/Africa/Lagos:{local:%Y%m%dT%H%M%S}",
            ]
        )
        minutes = length // timedelta(minutes=1)
        ended = random.choice([f"DTEND:{start + length:%Y%m%dT%H%M%SZ}", f"DURATION:PT{minutes}M"])
        summary = random.choice(["SUMMARY:x", "SUMMARY:" + "Gr\u00fc\u00dfe, " * 20])
        body = [begun, ended, f"CATEGORIES:{kind.title()}", summary]
        fault = random.choice([*[""] * 8, *_FAULTS])
        body += [fault] if fault else []
        random.shuffle(body)
        alarm = ["BEGIN:VALARM", "TRIGGER:-PT5M", "END:VALARM"] if random.random() < 0.2 else []
        lines += ["BEGIN:VEVENT", f"UID:{number}", *body, *alarm, "END:VEVENT"]
        if not fault:
            told[str(number)] = (start, start + length, kind)
    lines.append("END:VCALENDAR")
    newline = random.choice(["\r\n", "\n", "\r"])
    fold = random.choice([75, 75, 20, 1000])
    return newline.join(f"{newline} ".join(_cut(line, fold)) for line in lines) + newline, told


def _cut(line: str, most: int) -> list[str]:
    """Cut a line into parts, to fold it."""
    return [line[at : at + most] for at in range(0, len(line), most)]


_FAULTS = [
    "DTSTART:20260230T000000Z",
    "DTEND:19990101",
    "DURATION:-PT5M",
    "RRULE:FREQ=SECONDLY;BYHOUR=1",
    "RRULE:FREQ=DAILY;BYDAY=XX",
    "EXDATE:soon",
    "RDATE:now",
    "STATUS:UNKNOWN",
    "SEQUENCE:-x",
    "X-GANGPLAN-NOTHING:1",
    "EXRULE:FREQ=DAILY",
    "RECURRENCE-ID:yesterday",
]
WINDOW = Window(first=NOW - timedelta(days=1096), now=NOW, last=NOW + timedelta(days=366))


@tries(40, 300)
def test_calendars(seed: int, folder: Path) -> None:
    """Events in many notations, some with a fault; a file that is cut off somewhere; damaged bytes."""
    random = Random(seed)
    text, told = _draw_calendar(random)
    raw, file = text.encode(random.choice(["utf-8", "utf-8-sig", "utf-16"])), folder / "team.ics"
    cut = random.random() < 0.3
    file.write_bytes(raw[: random.randrange(len(raw))] if cut else raw)
    read = tried(lambda: read_calendar(file, WINDOW))
    if read is not None:
        kept = {event.uid: (event.start, event.end, event.columns["kind"]) for event in read.events}
        assert kept.items() <= told.items()
        named = len(read.rejected) + sum(int(note.split()[0]) for note in read.notes if "more may be cut off" in note)
        assert len(kept) == len(read.events)
        assert kept.keys() == told.keys() or named
    file.write_bytes(damaged(random, raw))
    tried(lambda: read_calendar(file, WINDOW))
