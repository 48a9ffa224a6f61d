"""Telemetry of any age ends at the present hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES
from gangplan.telemetry.align import LATE, LONGEST, align
from gangplan.telemetry.demand import hours_between
from gangplan.telemetry.values import Telemetry

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
def test_old_telemetry_moves_by_whole_weeks_and_is_cut_at_the_present(end: int, hours: int):
    """However old it is, it ends at the present hour, and a Monday's nine o'clock is still one."""
    last = PRESENT - end * HOUR
    moved = align(_telemetry(last - hours * HOUR, last), NOW)
    assert moved.end == PRESENT
    assert (moved.start - (last - hours * HOUR)) % WEEK == timedelta()
    demand = moved.demand
    assert demand["hour"].min() == moved.start
    assert demand["hour"].max() == PRESENT - HOUR
    assert demand["gpus"].null_count() == 0
    week_hour = (demand["hour"].dt.weekday().cast(pl.Float64) - 1) * 24 + demand["hour"].dt.hour()
    assert (demand["gpus"] == week_hour).all()


@given(end=st.integers(0, 60_000), hours=st.integers(1, 400))
@examples(40, 2000)
def test_short_telemetry_keeps_its_time_of_day_and_half_of_itself(end: int, hours: int):
    """Less than two weeks move by days, less than two days by hours: at least half stays, up to the present."""
    last = PRESENT - end * HOUR
    moved = align(_telemetry(last - hours * HOUR, last), NOW)
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
    moved = align(old, NOW)
    assert (moved.start, moved.end) == (PRESENT - 200 * HOUR, PRESENT)
    assert moved.demand["gpus"].to_list() == old.demand["gpus"].to_list()


@pytest.mark.parametrize("late", [0, 1, LATE // HOUR])
def test_late_collection_stays_where_it_is(late: int):
    """A few missing hours before the present are nulls, not a reason to move a week."""
    last = PRESENT - late * HOUR
    moved = align(_telemetry(last - 200 * HOUR, last), NOW)
    assert moved.start == last - 200 * HOUR
    assert moved.end == PRESENT
    assert moved.demand.sort("hour")["gpus"].tail(late).null_count() == late
    assert moved.demand["gpus"].null_count() == late


def test_what_lies_after_the_present_is_not_known_yet():
    """A job that ends after the present still runs, one that starts after it waits, one that comes after it is gone."""
    end = PRESENT + 3 * HOUR
    jobs = [
        ("ends-later", *SERIES.values(), 1.0, PRESENT - HOUR, PRESENT - HOUR, PRESENT + HOUR),
        ("starts-later", *SERIES.values(), 1.0, PRESENT - HOUR, PRESENT + HOUR, PRESENT + 2 * HOUR),
        ("comes-later", *SERIES.values(), 1.0, PRESENT + HOUR, None, None),
    ]
    telemetry = _telemetry(PRESENT - 30 * HOUR, end)
    cut = align(Telemetry(**{**vars(telemetry), "jobs": pl.DataFrame(jobs, schema=JOBS, orient="row")}), NOW)
    assert cut.jobs.select("job_id", "started_at", "ended_at").rows() == [
        ("ends-later", PRESENT - HOUR, None),
        ("starts-later", None, None),
    ]
    assert cut.demand["hour"].max() == PRESENT - HOUR
    assert cut.nodes.is_empty()
    assert cut.events.height == 1, "what is planned ahead is known"


def test_three_years_are_kept():
    """Older hours are cut, so that a mistyped year cannot fill the store."""
    moved = align(_telemetry(PRESENT - 2 * LONGEST, PRESENT), NOW)
    assert moved.start == PRESENT - LONGEST
    assert moved.jobs.filter(job_id="old").is_empty()


def test_clock_that_is_not_utc_is_refused():
    """A naive present would move everything by the machine's zone."""
    with pytest.raises(InputError, match=r"now: .* is not a UTC time"):
        align(_telemetry(PRESENT - 30 * HOUR, PRESENT), NOW.replace(tzinfo=None))
