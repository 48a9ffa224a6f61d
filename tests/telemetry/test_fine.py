"""Fine telemetry is what a loop over jobs or samples makes of it, and says which step the samples allow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from gangplan.errors import InputError
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS, conform, empty
from gangplan.telemetry import fine_gpus, fine_requests
from gangplan.types import Usage

END = datetime(2026, 3, 2, 9, tzinfo=UTC)
STEP = timedelta(minutes=5)


def usage(jobs: pl.DataFrame, requests: pl.DataFrame) -> Usage:
    """A day of telemetry."""
    rest = {"demand": DEMAND, "nodes": NODES, "queue": QUEUE, "events": EVENTS}
    tables = {name: empty(schema) for name, schema in rest.items()}
    return Usage(source="", sha256="", start=END - timedelta(days=1), end=END, jobs=jobs, requests=requests, **tables)


def a_job(name: str, kind: str, gpus: float, since: int, until: int | None) -> dict[str, object]:
    """A job that was asked for so many minutes before the end, and ended."""
    times = {"submitted_at": END - timedelta(minutes=since), "started_at": None}
    ended = None if until is None else END - timedelta(minutes=until)
    series = {"tenant": "chat", "workload_class": kind, "accelerator": "h100"}
    return {"job_id": name, **series, "gpus": gpus, **times, "ended_at": ended}


def test_gpus_of_serving_by_step() -> None:
    """A job counts for the share of a step that it was asked for; other classes do not count."""
    rows = [a_job("a", "latency", 4, 23, 11), a_job("b", "latency", 2, 7, None), a_job("c", "cost", 8, 60, None)]
    found = fine_gpus(usage(conform("jobs", pl.DataFrame(rows), JOBS), empty(REQUESTS)), STEP)
    assert found.height == 288
    assert found["time"].max() == END - STEP
    assert found["value"].tail(6).to_list() == pytest.approx([0, 2.4, 4, 3.2, 0.8, 2])


def test_requests_by_step_and_the_finest_step() -> None:
    """Samples of a step are averaged, a step without one is left out; a finer step than the samples is refused."""
    times = [END - timedelta(minutes=minutes) for minutes in (20, 18, 10, 6)]
    table = pl.DataFrame({"time": times, "tenant": "chat", "requests_per_second": [2.0, 4.0, 6.0, 8.0]})
    made = usage(empty(JOBS), conform("requests", table, REQUESTS))
    found = fine_requests(made, timedelta(minutes=10))
    assert found.select("time", "value").rows() == [(times[0], 3.0), (times[2], 7.0)]
    with pytest.raises(InputError, match=r"minutes apart: use --step 4"):
        fine_requests(made, timedelta(minutes=1))


def test_nothing_to_read_is_said() -> None:
    """No latency-bound job, no sample: each with its remedy."""
    nothing = usage(empty(JOBS), empty(REQUESTS))
    with pytest.raises(InputError, match="--of requests"):
        fine_gpus(nothing, STEP)
    with pytest.raises(InputError, match="requests per second"):
        fine_requests(replace(nothing), STEP)
