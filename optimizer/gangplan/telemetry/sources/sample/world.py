"""The sample's constants: which series ask for how many GPUs when, and which events there are.

Its 19 weeks start on a Monday, so at least 18 whole weeks remain after `align` has moved them to the present.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from gangplan.tables import EVENTS, conform
from gangplan.types import WorkloadClass

ANCHOR = datetime(2025, 1, 6, tzinfo=UTC)
DAYS = 133
HOURS = DAYS * 24
WARM_UP = 72
"""Hours of jobs before the anchor, so that the sample does not start with an empty cluster."""

EVENT_DAYS = DAYS + 42
"""Events are known up to this day, so that a forecast from the present finds future ones."""

FINE = timedelta(minutes=15)
FINE_DAYS = 21
"""Samples of nodes, queues and requests are hourly, and every 15 minutes in the last three weeks."""


@dataclass(frozen=True)
class SeriesShape:
    """A series: its mean GPUs at the start, and how they change over the days, the hours and the week."""

    tenant: str
    workload_class: WorkloadClass
    accelerator: str
    gpus: float
    growth_per_day: float  # as a share
    daily: float  # how far the peak is above the mean of the day, as a share
    weekend: float  # factor on Saturday and Sunday
    peak_hour: float  # of the day

    @property
    def key(self) -> tuple[str, str, str]:
        """Tenant, class and accelerator, as the tables name the series."""
        return self.tenant, self.workload_class.value, self.accelerator

    @property
    def serving(self) -> bool:
        """Whether its jobs are replicas that follow the target, instead of batch jobs that queue."""
        return self.workload_class is WorkloadClass.LATENCY


_L, _T, _C = WorkloadClass.LATENCY, WorkloadClass.THROUGHPUT, WorkloadClass.COST
WORLD = (
    SeriesShape("language", _L, "h100", 36, 0.0030, 0.35, 0.80, 15),
    SeriesShape("language", _T, "h100", 60, 0.0020, 0.25, 0.60, 17),
    SeriesShape("risk", _C, "l4", 14, 0.0000, 0.50, 1.10, 2),
    SeriesShape("risk", _T, "a100", 18, 0.0010, 0.30, 0.40, 11),
    SeriesShape("search", _C, "a100", 14, 0.0005, 0.45, 1.15, 3),
    SeriesShape("search", _L, "a100", 28, 0.0015, 0.40, 0.90, 20),
    SeriesShape("search", _L, "l4", 22, 0.0010, 0.45, 0.95, 20),
    SeriesShape("vision", _L, "l4", 18, 0.0020, 0.40, 0.70, 13),
    SeriesShape("vision", _T, "a100", 34, 0.0005, 0.25, 0.50, 16),
)
"""The nine series: four tenants, three classes, three accelerators."""

ACCELERATORS = {"h100": 8, "a100": 8, "l4": 4}
"""GPUs per node."""

EFFECT: dict[tuple[str, WorkloadClass], float] = {
    ("release", _T): 1.45,
    ("release", _L): 1.20,
    ("campaign", _L): 1.40,
    ("campaign", _C): 1.15,
    ("holiday", _L): 0.80,
    ("holiday", _T): 0.55,
}
"""The factor of an event on the demand of a class; other pairs have the factor 1."""


def calendar() -> pl.DataFrame:
    """Return releases, campaigns and holidays (EVENTS)."""
    rows = [
        *_every("release", "language", first=9, every=21, days=5),
        *_every("release", "vision", first=16, every=28, days=4),
        *_every("campaign", "search", first=25, every=35, days=4),
        *_every("holiday", None, first=46, every=49, days=1),
    ]
    frame = pl.DataFrame(rows, schema=["start", "end", "kind", "tenant"], orient="row")
    return conform("events", frame, EVENTS).sort("start", "kind")


def _every(
    kind: str, tenant: str | None, *, first: int, every: int, days: int
) -> list[tuple[datetime, datetime, str, str | None]]:
    """Return an event that repeats after so many days."""
    starts = [ANCHOR + timedelta(days=day) for day in range(first, EVENT_DAYS, every)]
    return [(start, start + timedelta(days=days), kind, tenant) for start in starts]
