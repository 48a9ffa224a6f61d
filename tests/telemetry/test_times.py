"""Texts as instants: offsets are exact, local times need their zone, and its changes of clocks are said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.errors import InputError
from gangplan.telemetry.rows import LINE, Moments, read_times, require_zone, value_of
from gangplan.telemetry.rows.times import fault_of


def _read(*texts: str | None, zone: str = "") -> list[datetime | str | None]:
    """Read texts; of one that is no instant, why."""
    rows = pl.DataFrame({"at": texts, LINE: range(len(texts))}, schema={"at": pl.String, LINE: pl.Int64})
    read, _ = read_times(rows, [Moments("at")], zone)
    pairs = read.select(value_of("at").alias("value"), fault_of("at").alias("why"))
    return [why if value is None else value for value, why in pairs.iter_rows()]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00"),
        ("2026-03-01T12:00:00+01:00", "2026-03-01T11:00:00"),
        ("2026-03-01 12:00:00-0530", "2026-03-01T17:30:00"),
        ("2026-03-01T12:00+08", "2026-03-01T04:00:00"),
        ("2026-03-01 12:00:00.123456789 UTC", "2026-03-01T12:00:00.123456"),
        ("2026-03-01T12:00:00,5z", "2026-03-01T12:00:00.500000"),
    ],
)
def test_offsets_are_exact(text: str, moment: str):
    """Whatever zone is named, an offset says the instant."""
    wanted = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert _read(text, zone="Asia/Tokyo") == _read(text) == [wanted]


@pytest.mark.parametrize(
    "text", ["01.03.2026 12:00", "12:00:00", "2026-03-01", "2026-3-1 12:00:00", "1772366400", "now"]
)
def test_other_forms_are_no_times(text: str):
    """Nothing is guessed: which is the day and which the month, or in which unit a number is."""
    assert _read(text, zone="UTC") == ["form"]


def test_days_that_are_not_and_missing_zones():
    """February has no 30th; a time without an offset needs a zone; what is empty is nothing."""
    assert _read("2026-02-30T00:00:00Z", "2026-03-01T12:00:00", "2026-03-01T25:00:00Z", None) == [
        "day",
        "zone",
        "day",
        None,
    ]


@given(
    moments=st.lists(st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)), min_size=1),  # noqa: DTZ001
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]),
    written=st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M"]),
)
@examples(60, 3000)
def test_local_times_are_what_the_zones_rules_say(moments: list[datetime], zone: str, written: str):
    """Beside Python's own rules: first of two, none in a gap."""
    texts = [moment.strftime(written) for moment in moments]
    read = _read(*texts, zone=zone)
    for text, value in zip(texts, read, strict=True):
        local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
        exists = local.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local.replace(tzinfo=None)
        assert value == (local.astimezone(UTC) if exists else "gap")


def test_hour_that_stands_twice_keeps_the_order_and_is_said():
    """A job that starts at 2:50 of the first hour ends at 2:10 of the second; the lines are named."""
    columns = {
        "start": ["2026-10-25T02:50:00", "2026-10-25T12:00:00"],
        "end": ["2026-10-25T02:10:00", "2026-10-25T13:00:00"],
    }
    rows = pl.DataFrame({**columns, LINE: [7, 8]})
    read, notes = read_times(rows, [Moments("start"), Moments("end", ("start",))], "Europe/Berlin")
    start, end = read.select(value_of("start"), value_of("end")).row(0)
    assert (start, end - start) == (datetime(2026, 10, 25, 0, 50, tzinfo=UTC), timedelta(minutes=20))
    assert notes[0] == "4 times without an offset were read as times of Europe/Berlin"
    assert notes[1].startswith("1 times of start (line 7) are an hour that Europe/Berlin has twice: read as the first")


@pytest.mark.parametrize("newest_first", [False, True])
def test_samples_of_the_night_of_25_hours_are_all_there(newest_first: bool):
    """Hourly samples in local time: 2 o'clock comes twice, and the second is an hour after the first."""
    hours = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(hours=hour) for hour in range(6)]
    local = [f"{hour.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%dT%H:%M:%S}" for hour in hours]
    wanted = [(each, tenant) for each in hours for tenant in ("a", "b")]
    texts = [(each, tenant) for each in local for tenant in ("a", "b")]
    if newest_first:
        wanted, texts = wanted[::-1], texts[::-1]
    rows = pl.DataFrame(texts, schema=["time", "tenant"], orient="row").with_row_index(LINE)
    read, notes = read_times(rows, [Moments("time", series=("tenant",))], "Europe/Berlin")
    assert read.select(value_of("time"), "tenant").rows() == wanted
    assert "4 times of time (line" in notes[1]


@pytest.mark.parametrize("zone", ["Europe/Berln", "CEST", "../etc/passwd", "UTC+1", "Europe"])
def test_unknown_zone_is_named(zone: str):
    """A zone is a name of the zone database."""
    with pytest.raises(InputError, match="is no time zone: give one like Europe/Berlin"):
        require_zone(zone)
