"""Telemetry keeps its times; a replay, which has to be asked for, ends at the present hour and says by how much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES
from gangplan.telemetry.demand import hours_between
from gangplan.telemetry.timing import LATE, LONGEST, Timing, delivered, known_at, replayed
from gangplan.telemetry.values import TABLES, Telemetry

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
PRESENT = datetime(2026, 3, 2, 9, tzinfo=UTC)
WEEK = timedelta(weeks=1)
SERIES = {"tenant": "search", "workload_class": "cost", "accelerator": "a100"}


def _telemetry(start: datetime, end: datetime, *, relative: bool = False) -> Telemetry:
    """Telemetry whose demand in an hour is the hour of the week it was measured in, and one job through it all."""
    hours = hours_between(start, end)
    week_hour = (hours.dt.weekday().cast(pl.Float64) - 1) * 24 + hours.dt.hour()
    frame = pl.DataFrame({"hour": hours, **{name: [value] * len(hours) for name, value in SERIES.items()}})
    jobs = [
        ("old", *SERIES.values(), 1.0, start, start + HOUR / 2, start + HOUR),
        ("runs", *SERIES.values(), 1.0, end - HOUR, end - HOUR / 2, None),
        ("waits", *SERIES.values(), 1.0, end - HOUR / 4, None, None),
    ]
    return Telemetry(
        source="test",
        rows=1,
        start=start,
        end=end,
        relative=relative,
        demand=frame.with_columns(gpus=week_hour).select(DEMAND.keys()),
        jobs=pl.DataFrame(jobs, schema=JOBS, orient="row"),
        nodes=pl.DataFrame([(end - HOUR / 2, "n", "a100", 0.1, 0.2, 0.3, 4.0)], schema=NODES, orient="row"),
        events=pl.DataFrame([(end + WEEK, end + WEEK + HOUR, "release", None)], schema=EVENTS, orient="row"),
    )


@given(end=st.integers(7, 60_000), hours=st.integers(336, 600))
@examples(40, 2000)
def test_a_replay_moves_by_whole_weeks_and_is_cut_at_the_present(end: int, hours: int):
    """However old it is, it ends at the present hour, and a Monday's nine o'clock is still one."""
    last = PRESENT - end * HOUR
    moved = replayed(_telemetry(last - hours * HOUR, last), NOW)
    assert moved.end == PRESENT
    assert (moved.start - (last - hours * HOUR)) % WEEK == timedelta()
    demand = moved.demand
    assert demand["hour"].min() == moved.start
    assert demand["hour"].max() == PRESENT - HOUR
    assert demand["gpus"].null_count() == 0
    week_hour = (demand["hour"].dt.weekday().cast(pl.Float64) - 1) * 24 + demand["hour"].dt.hour()
    assert (demand["gpus"] == week_hour).all()


@given(end=st.integers(7, 60_000), hours=st.integers(1, 400))
@examples(40, 2000)
def test_a_short_replay_keeps_its_time_of_day_and_half_of_itself(end: int, hours: int):
    """Less than two weeks move by days, less than two days by hours: at least half stays, up to the present."""
    last = PRESENT - end * HOUR
    moved = replayed(_telemetry(last - hours * HOUR, last), NOW)
    assert moved.end == PRESENT
    assert moved.demand.drop_nulls("gpus").height >= hours / 2
    if hours >= 48:
        assert (moved.start - (last - hours * HOUR)) % timedelta(days=1) == timedelta()


@given(end=st.integers(0, 60_000))
@examples(30, 2000)
def test_relative_trace_moves_by_whole_hours_and_loses_nothing(end: int):
    """A trace without a calendar ends at the present with all its hours."""
    last = PRESENT - end * HOUR
    old = _telemetry(last - 200 * HOUR, last, relative=True)
    moved = replayed(old, NOW)
    assert (moved.start, moved.end) == (PRESENT - 200 * HOUR, PRESENT)
    assert moved.demand["gpus"].to_list() == old.demand["gpus"].to_list()


@pytest.mark.parametrize("late", [0, 1, LATE // HOUR])
def test_late_collection_stays_where_it_is(late: int):
    """A replay of what ends a few hours ago moves nothing, and loses nothing."""
    last = PRESENT - late * HOUR
    old = _telemetry(last - 200 * HOUR, last)
    assert replayed(old, NOW) is old


def test_what_lies_after_the_present_is_not_known_yet():
    """A job that ends after the present still runs, one that starts after it waits, one that comes after it is gone."""
    end = PRESENT + 3 * HOUR
    jobs = [
        ("ends-later", *SERIES.values(), 1.0, PRESENT - HOUR, PRESENT - HOUR, PRESENT + HOUR),
        ("starts-later", *SERIES.values(), 1.0, PRESENT - HOUR, PRESENT + HOUR, PRESENT + 2 * HOUR),
        ("comes-later", *SERIES.values(), 1.0, PRESENT + HOUR, None, None),
    ]
    telemetry = _telemetry(PRESENT - 30 * HOUR, end)
    cut = known_at(replace(telemetry, jobs=pl.DataFrame(jobs, schema=JOBS, orient="row")), NOW)
    assert cut.jobs.select("job_id", "started_at", "ended_at").rows() == [
        ("ends-later", PRESENT - HOUR, None),
        ("starts-later", None, None),
    ]
    assert cut.demand["hour"].max() == PRESENT - HOUR
    assert cut.nodes.is_empty()
    assert cut.events.height == 1, "what is planned ahead is known"


def test_three_years_are_kept():
    """Older hours are cut, so that a mistyped year cannot fill the store; a note says so."""
    kept = delivered(_telemetry(PRESENT - 2 * LONGEST, PRESENT), NOW)
    assert kept.start == PRESENT - LONGEST
    assert kept.jobs.filter(job_id="old").is_empty()
    assert kept.notes == (f"what lies before {kept.start:%Y-%m-%d %H:00} was left out: 1096 days are kept",)


def test_clock_that_is_not_utc_is_refused():
    """A naive present would move everything by the machine's zone."""
    with pytest.raises(InputError, match=r"now: .* is not a UTC time"):
        delivered(_telemetry(PRESENT - 30 * HOUR, PRESENT), NOW.replace(tzinfo=None))


@given(end=st.integers(-3, 60_000), hours=st.integers(1, 600))
@examples(40, 2000)
def test_no_time_changes_unless_a_replay_is_asked_for(end: int, hours: int):
    """Whatever its age, every row of every table is as the source gave it, or lies outside of the span."""
    last = PRESENT - end * HOUR
    given_ = _telemetry(last - hours * HOUR, last)
    kept = delivered(Timing().placed(given_, NOW), NOW)
    assert kept.end == min(last, PRESENT)
    for name in TABLES:
        before, after = getattr(given_, name), getattr(kept, name)
        assert after.join(before, on=after.columns, how="anti", nulls_equal=True).is_empty(), name
        if name != "demand":
            assert after.height == before.height, name


def test_the_last_hour_is_the_last_that_is_known():
    """Hours that are only missing at the end were not delivered."""
    whole = _telemetry(PRESENT - 30 * HOUR, PRESENT)
    gone = pl.when(pl.col("hour") < PRESENT - 4 * HOUR).then(pl.col("gpus")).alias("gpus")
    assert delivered(replace(whole, demand=whole.demand.with_columns(gone)), NOW).end == PRESENT - 4 * HOUR


def test_a_replay_says_by_how_much():
    """The note is the first of all, and names the moment that became the present."""
    old = replace(_telemetry(PRESENT - 900 * HOUR, PRESENT - 300 * HOUR), notes=("a note",))
    moved = replayed(old, NOW)
    assert moved.notes[0].startswith("replayed: every time was moved by 14 days")
    assert f"so that {PRESENT - 2 * WEEK:%Y-%m-%d %H:00} is the present" in moved.notes[0]
    assert moved.notes[1:] == ("a note",)


def test_a_replay_from_the_middle_knows_nothing_of_the_rest():
    """With `at`, that moment of the trace becomes the present, to the same hour of the week."""
    old = _telemetry(PRESENT - 2000 * HOUR, PRESENT - 1000 * HOUR)
    at = PRESENT - 9 * WEEK
    moved = Timing(replay=True, at=at.isoformat()).placed(old, NOW)
    assert (moved.end, moved.start - old.start) == (PRESENT, 9 * WEEK)
    assert moved.jobs["job_id"].to_list() == ["old"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"until": (NOW + HOUR).isoformat()}, r"until: '2026-03-02T10:20:00\+00:00' is after now"),
        ({"until": "yesterday"}, r"until: 'yesterday' is not an ISO 8601 time"),
        ({"at": "2026-01-01T00:00:00Z"}, r"at: .* give --replay with it"),
        ({"replay": True, "at": "2020-01-01T00:00:00Z"}, r"at: .* is not in the trace: give a time between"),
    ],
)
def test_what_a_timing_cannot_mean_is_refused(said: dict[str, Any], message: str):
    """Field, value and remedy are named."""

    def used() -> None:
        timing = Timing(**said)
        timing.export_time("jobs.csv", NOW, live=False)
        timing.placed(_telemetry(PRESENT - 30 * HOUR, PRESENT), NOW)

    with pytest.raises(InputError, match=message):
        used()


def test_a_live_source_ends_by_itself():
    """`until` is for files, and a trace without a calendar has to be replayed."""
    with pytest.raises(InputError, match=r"until: 'now' is for files: sample ends at the present by itself"):
        Timing(until="now").export_time("sample", NOW, live=True)
    with pytest.raises(InputError, match=r"has no calendar, .*: give --replay"):
        Timing().placed(_telemetry(PRESENT - 30 * HOUR, PRESENT, relative=True), NOW)
