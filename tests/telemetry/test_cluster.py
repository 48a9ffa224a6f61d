"""A cluster's memory as telemetry: what is asked for, what waits, what was forgotten meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from gangplan.kube.gangs import Gang
from gangplan.telemetry.sources.kubernetes import jobs_of, remembered, telemetry_of

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_gang(id: str, **changes: object) -> Gang:
    """Return a gang of 4 GPUs that began an hour ago and runs."""
    plain = {"tenant": "vision", "accelerator": "h100", "count": 4.0, "kind": "", "created": NOW - HOUR}
    return Gang(**{"id": id, **plain, "started": NOW - HOUR, "ended": None, **changes})  # pyright: ignore[reportArgumentType]


def test_demand_is_what_was_asked_for_and_the_queue_what_waits() -> None:
    """A gang that ran 30 minutes is half its GPUs in that hour; one that waits is asked for, and in the queue."""
    ran = a_gang("a", created=NOW - 80 * HOUR / 60, started=None, ended=NOW - 50 * HOUR / 60)
    waits = a_gang("b", created=NOW - 20 * HOUR / 60, started=None, accelerator="", count=2.0)
    made = telemetry_of("kubernetes+-", jobs_of([ran, waits]), NOW)
    hours = made.demand.sort("accelerator", "hour").select("accelerator", "gpus").rows()
    assert hours == [("any", 0.0), ("any", 2.0), ("h100", 2.0), ("h100", 0.0)]
    assert made.queue.select("tenant", "accelerator", "jobs", "gpus").rows() == [("vision", "any", 1, 2.0)]
    assert (made.start, made.end, made.live) == (NOW.replace(hour=8, minute=0), NOW.replace(hour=10, minute=0), True)


def test_what_the_cluster_forgot_is_kept_and_ended_by_the_next_look() -> None:
    """One that is still there is as it is now; one that is gone has ended; one long over is forgotten."""
    old = a_gang("old", created=NOW - 500 * 24 * HOUR, ended=NOW - 499 * 24 * HOUR)
    first = jobs_of([a_gang("stays"), a_gang("goes"), old])
    second = remembered(first, jobs_of([a_gang("stays", ended=NOW - HOUR / 2)]), NOW)
    ends = dict(second.select("job_id", "ended_at").rows())
    assert ends == {"stays": NOW - HOUR / 2, "goes": NOW}
    assert remembered(second, jobs_of([]), NOW + HOUR).equals(second)
    assert second.filter(pl.col("job_id").is_duplicated()).is_empty()
