"""What people know is read from the calendars they keep, bad rows are named, and it reaches the telemetry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.errors import InputError
from gangplan.tables import ANNOUNCED
from gangplan.telemetry.announcements import ANNOUNCEMENT, announce, read_announced
from gangplan.tracking import TELEMETRY, Store

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)

CSV = """start,end,kind,tenant,like,workload_class,accelerator,gpus,growth
2026-03-10T08:00:00Z,2026-03-15T08:00:00Z,big-launch,search,release,,,,
2026-03-04T00:00:00Z,2026-03-04T12:00:00Z,job,vision,,throughput,a100,64,
2026-01-01T00:00:00Z,2026-12-31T00:00:00Z,target,language,,,,,0.25
2026-03-04T00:00:00Z,2026-03-03T00:00:00Z,release,,,,,,
2026-03-04T00:00:00Z,2026-03-05T00:00:00Z,job,vision,,,,8,
2026-03-04,2026-03-05T00:00:00Z,release,,,,,,
2026-03-04T00:00:00Z,2026-03-05T00:00:00Z,target,vision,,,,,
"""

ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//team//calendar//EN
BEGIN:VEVENT
UID:1
SUMMARY:Spring release
CATEGORIES:Release Train,Marketing
DTSTART;TZID=Europe/Berlin:20260310T090000
DTEND;TZID=Europe/Berlin:20260310T170000
X-GANGPLAN-TENANT:search
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Weekly batch
DTSTART;VALUE=DATE:20260302
DTEND;VALUE=DATE:20260303
RRULE:FREQ=WEEKLY;COUNT=4
X-GANGPLAN-KIND:campaign
END:VEVENT
END:VCALENDAR
"""


def test_csv_keeps_sound_rows_and_names_the_others(mlflow_store: Store, tmp_path: Path) -> None:
    """Events, planned jobs and targets are read; four bad rows are named with field, value and remedy."""
    file = tmp_path / "calendar.csv"
    file.write_text(CSV)
    told = announce(str(file), mlflow_store, clock=lambda: NOW)
    assert sorted(told.rows["kind"]) == ["big-launch", "job", "target"]
    assert told.rejected_count == 4
    said = [str(row) for row in told.rejected]
    assert any("line 5: end" in row and "must not be before start" in row for row in said)
    assert any("line 6: gpus" in row and "is no planned job" in row for row in said)
    assert any("line 7: start" in row and "is not an ISO 8601 time" in row for row in said)
    assert any("line 8: growth" in row and "give it as a share" in row for row in said)
    assert read_announced(mlflow_store).schema == pl.Schema(ANNOUNCED)


def test_icalendar_is_read_in_utc_with_what_comes_back(mlflow_store: Store, tmp_path: Path) -> None:
    """A zone becomes UTC, categories a kind, a weekly event four events, our own properties columns."""
    file = tmp_path / "team.ics"
    file.write_text(ICS.replace("\n", "\r\n"))
    rows = announce(str(file), mlflow_store, clock=lambda: NOW).rows
    release = rows.filter(pl.col("kind") == "release-train")
    assert release.select("start", "tenant").row(0) == (datetime(2026, 3, 10, 8, tzinfo=UTC), "search")
    days = rows.filter(pl.col("kind") == "campaign")["start"].to_list()
    assert days == [datetime(2026, 3, 2, tzinfo=UTC) + timedelta(weeks=week) for week in range(4)]


def test_holidays_of_a_country_are_whole_days(mlflow_store: Store) -> None:
    """Christmas in Germany is there, this year and past ones."""
    rows = announce("holidays:DE", mlflow_store, clock=lambda: NOW).rows
    christmas = rows.filter(pl.col("start") == datetime(2025, 12, 25, tzinfo=UTC))
    assert christmas.select("kind", "end").row(0) == ("holiday", datetime(2025, 12, 26, tzinfo=UTC))


def test_zone_that_is_named_counts_where_none_is_written(mlflow_store: Store, tmp_path: Path) -> None:
    """Of a table, of a calendar's whole days, and of a country's holidays; without it a local time is kept out."""
    table, calendar = tmp_path / "events.csv", tmp_path / "team.ics"
    table.write_text("start,end,kind\n2026-03-09T09:00:00,2026-03-09T17:00:00,release\n")
    calendar.write_text(ICS)
    with pytest.raises(InputError, match=r"line 2: start: .* has no time zone: .* --zone Europe/Berlin"):
        announce(str(table), mlflow_store, clock=lambda: NOW)
    told = {
        source: announce(source, mlflow_store, clock=lambda: NOW, zone="Europe/Berlin")
        for source in (str(table), str(calendar), "holidays:DE")
    }
    assert told[str(table)].rows["start"].item() == datetime(2026, 3, 9, 8, tzinfo=UTC)
    assert told[str(table)].notes == ("2 times without an offset were read as times of Europe/Berlin",)
    assert datetime(2026, 3, 1, 23, tzinfo=UTC) in told[str(calendar)].rows["start"].to_list()
    assert datetime(2025, 12, 24, 23, tzinfo=UTC) in told["holidays:DE"].rows["start"].to_list()
    with pytest.raises(InputError, match="zone: 'Berlin' is no time zone"):
        announce(str(table), mlflow_store, clock=lambda: NOW, zone="Berlin")


def test_tagged_runs_are_events(mlflow_store: Store) -> None:
    """A run with the tag gangplan.event.kind is an event; without times in tags its own start and end count."""
    tags = {"gangplan.event.kind": "release", "gangplan.event.tenant": "search"}
    with mlflow_store.run("deployments", "rollout", tags):
        pass
    later = {"gangplan.event.start": "2026-03-09T00:00:00Z", "gangplan.event.end": "2026-03-10T00:00:00Z"}
    with mlflow_store.run("deployments", "planned", {**tags, **later}):
        pass
    rows = announce(f"mlflow+{mlflow_store.uri}", mlflow_store, clock=lambda: NOW).rows
    assert rows.height == 2
    assert datetime(2026, 3, 9, tzinfo=UTC) in rows["start"].to_list()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("holidays:XX", "no country that is known"),
        ("nowhere.ics", "cannot be read"),
        ("nowhere.csv", "is not there"),
    ],
)
def test_bad_source_is_named_and_nothing_written(source: str, words: str, mlflow_store: Store) -> None:
    """What cannot be read is one line, and no run."""
    with pytest.raises(InputError, match=words):
        announce(source, mlflow_store, clock=lambda: NOW)
    assert read_announced(mlflow_store).is_empty()


def test_no_icalendar_is_an_input_error(mlflow_store: Store, tmp_path: Path) -> None:
    """A file that is no calendar is refused with a remedy."""
    file = tmp_path / "broken.ics"
    file.write_text("this is no calendar")
    with pytest.raises(InputError, match=r"no iCalendar file|no usable row"):
        announce(str(file), mlflow_store, clock=lambda: NOW)


def test_said_anew_replaces_and_reaches_the_usage(mlflow_store: Store, tmp_path: Path) -> None:
    """The newest word of a source counts; its events stand among those of the telemetry, jobs and targets do not."""
    (tmp_path / "jobs.csv").write_text(
        "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at\n"
        "a,search,latency,l4,2,2026-02-02T09:00:00Z,2026-02-02T09:00:30Z,2026-03-02T09:00:00Z\n"
    )
    telemetry.ingest(str(tmp_path / "jobs.csv"), mlflow_store, seed=1, clock=lambda: NOW)
    before = telemetry.read_usage(mlflow_store)
    file = tmp_path / "calendar.csv"
    file.write_text(CSV)
    announce(str(file), mlflow_store, clock=lambda: NOW)
    file.write_text("\n".join(CSV.splitlines()[:3]).replace("big-launch", "small-launch") + "\n")
    announce(str(file), mlflow_store, clock=lambda: NOW)
    after = telemetry.read_usage(mlflow_store)
    assert after.events["kind"].to_list() == ["small-launch"]
    assert after.announced is not None
    assert sorted(after.announced["kind"]) == ["job", "small-launch"]
    assert after.sha256 != before.sha256


def test_newest_telling_holds_however_often_others_were_told(mlflow_store: Store, tmp_path: Path) -> None:
    """Hourly tellings of one source leave one run that is read, so they never push out what was told once a year."""
    announce("holidays:DE", mlflow_store, clock=lambda: NOW)
    file = tmp_path / "calendar.csv"
    for hour in range(6):
        file.write_text(f"start,end,kind\n2026-03-10T{hour:02}:00:00Z,2026-03-11T00:00:00Z,release\n")
        announce(str(file), mlflow_store, clock=lambda: NOW)
    assert len(mlflow_store.runs(TELEMETRY, ANNOUNCEMENT, limit=100)) == 2
    rows = read_announced(mlflow_store)
    assert rows.filter(pl.col("kind") == "release")["start"].to_list() == [datetime(2026, 3, 10, 5, tzinfo=UTC)]
    assert "holiday" in set(rows["kind"])


def test_same_telling_writes_nothing(mlflow_store: Store, tmp_path: Path) -> None:
    """What the newest telling says already is not written again; what an older one said is."""
    file = tmp_path / "calendar.csv"
    told: list[str] = []
    for hour in (1, 1, 2, 1):
        file.write_text(f"start,end,kind\n2026-03-10T{hour:02}:00:00Z,2026-03-11T00:00:00Z,release\n")
        told.append(announce(str(file), mlflow_store, clock=lambda: NOW).run_id)
    assert told[0] == told[1]
    assert len(set(told)) == 3


def test_cancelled_release_holds_no_longer(mlflow_store: Store, tmp_path: Path) -> None:
    """A calendar whose last event is cancelled is told, and empty; one that cannot be read changes nothing."""
    file = tmp_path / "team.ics"
    file.write_text(ICS)
    announce(str(file), mlflow_store, clock=lambda: NOW)
    file.write_text(
        ICS.replace("DTSTART;TZID=Europe/Berlin", "DTSTART;TZID=Nowhere").replace("FREQ=WEEKLY", "FREQ=NEVER")
    )
    with pytest.raises(InputError, match="has no usable row"):
        announce(str(file), mlflow_store, clock=lambda: NOW)
    assert read_announced(mlflow_store).height == 5
    file.write_text(ICS.replace("UID:", "STATUS:CANCELLED\nUID:"))
    told = announce(str(file), mlflow_store, clock=lambda: NOW)
    assert told.rows.is_empty()
    assert "5 events: cancelled: left out" in told.notes
    assert read_announced(mlflow_store).is_empty()


def test_table_marks_cancelled_and_tentative_and_names_other_columns(mlflow_store: Store, tmp_path: Path) -> None:
    """A CSV calendar has a status, too; a column that nobody reads is named."""
    file = tmp_path / "calendar.csv"
    times = "2026-03-10T08:00:00Z,2026-03-11T08:00:00Z"
    rows = [
        f"{times},release,cancelled,x",
        f"{times},campaign,tentative,x",
        f"{times},launch,,x",
        f"{times},other,perhaps,x",
    ]
    file.write_text("\n".join(["start,end,kind,status,tennant", *rows]))
    told = announce(str(file), mlflow_store, clock=lambda: NOW)
    assert dict(told.rows.select("kind", "status").iter_rows()) == {"campaign": "tentative", "launch": None}
    assert told.notes == ("column 'tennant' is not read (docs/events.md)", "1 cancelled: left out")
    assert [row.field for row in told.rejected] == ["status"]


def test_announcements_of_earlier_versions_are_read(mlflow_store: Store) -> None:
    """A table without the column status, as earlier versions wrote it, is read beside newer ones."""
    moment = datetime(2026, 3, 10, tzinfo=UTC)
    columns = {name: kind for name, kind in ANNOUNCED.items() if name != "status"}
    old = pl.DataFrame({**dict.fromkeys(columns), "start": [moment], "end": [moment], "kind": ["old"]}, schema=columns)
    with mlflow_store.run(TELEMETRY, "announced old", {**ANNOUNCEMENT, "source": "old.csv", "sha256": "x"}) as run_id:
        mlflow_store.log_table(run_id, "announced", old)
    announce("holidays:DE", mlflow_store, clock=lambda: NOW)
    rows = read_announced(mlflow_store)
    assert rows.schema == pl.Schema(ANNOUNCED)
    assert {"old", "holiday"} <= set(rows["kind"])
