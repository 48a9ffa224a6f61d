"""Hourly demand is the time-weighted mean of what was asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.tables import DEMAND, JOBS
from gangplan.telemetry.demand import fill_grid, hourly_demand

START = datetime(2026, 1, 5, tzinfo=UTC)
END = START + timedelta(hours=6)

minutes = st.integers(min_value=-120, max_value=8 * 60)
asked = st.lists(st.tuples(minutes, st.none() | st.integers(0, 600), st.integers(1, 16)), max_size=12)


def _jobs(rows: list[tuple[int, int | None, int]]) -> pl.DataFrame:
    """Return jobs of one series from minutes after START: submitted, duration, GPUs."""
    made = [
        (str(n), "search", "cost", "a100", float(gpus), START + timedelta(minutes=begin), None, None)
        if length is None
        else (
            str(n),
            "search",
            "cost",
            "a100",
            float(gpus),
            START + timedelta(minutes=begin),
            None,
            START + timedelta(minutes=begin + length),
        )
        for n, (begin, length, gpus) in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=JOBS, orient="row")


@given(asked)
@examples(60, 3000)
def test_demand_is_the_minute_by_minute_mean(rows: list[tuple[int, int | None, int]]):
    """Counting GPUs minute by minute gives the same hours as the sorted sums."""
    demand = hourly_demand(_jobs(rows), START, END)
    slow = [
        sum(
            gpus
            for begin, length, gpus in rows
            for minute in range(60 * hour, 60 * hour + 60)
            if begin <= minute and (length is None or minute < begin + length)
        )
        / 60
        for hour in range(6)
    ]
    assert demand["gpus"].to_list() == pytest.approx(slow if rows else [], abs=1e-5)


def test_idle_hour_is_zero_and_unmeasured_hour_is_null():
    """A series that asked for nothing in an hour has a zero; an hour that a table lacks is a null."""
    demand = hourly_demand(_jobs([(0, 30, 4)]), START, END)
    assert demand["gpus"].to_list() == [2, 0, 0, 0, 0, 0]
    grid = fill_grid(demand.filter(pl.col("gpus") > 0), START, END)
    assert grid["gpus"].to_list() == [2, None, None, None, None, None]
    assert dict(grid.schema) == DEMAND
