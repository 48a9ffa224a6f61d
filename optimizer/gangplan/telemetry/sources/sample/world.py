"""The sample's world: who asks for what, and when; the same for every seed but for the draws.

Its 19 weeks begin on a Monday, so that 18 whole weeks and more remain when `align` has moved them to the present.
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
"""Hours before the anchor in which jobs arrive already, so that the sample does not begin with an empty cluster."""

EVENT_DAYS = DAYS + 42
"""Events are known this far, so that a forecast from the present finds those ahead of it."""

FINE = timedelta(minutes=15)
FINE_DAYS = 21
"""The last three weeks of node, queue and request samples are at 15 minutes, those before hourly."""


@dataclass(frozen=True, kw_only=True)
class SeriesShape:
    """One series: mean GPUs at the start, growth per day, daily and weekly swing, hour of its peak."""

    tenant: str
    workload_class: WorkloadClass
    accelerator: str
    gpus: float
    growth_per_day: float
    daily: float
    weekend: float
    peak_hour: float

    @property
    def key(self) -> tuple[str, str, str]:
        """Tenant, class and accelerator, as the tables name the series."""
        return self.tenant, self.workload_class.value, self.accelerator

    @property
    def serving(self) -> bool:
        """Whether replicas follow the target, instead of jobs that queue."""
        return self.workload_class is WorkloadClass.LATENCY


def _series(
    tenant: str, kind: WorkloadClass, accelerator: str, gpus: float, growth: float, swing: tuple[float, float, float]
) -> SeriesShape:
    """Write a series in one line."""
    daily, weekend, peak = swing
    return SeriesShape(
        tenant=tenant,
        workload_class=kind,
        accelerator=accelerator,
        gpus=gpus,
        growth_per_day=growth,
        daily=daily,
        weekend=weekend,
        peak_hour=peak,
    )


_L, _T, _C = WorkloadClass.LATENCY, WorkloadClass.THROUGHPUT, WorkloadClass.COST
WORLD = (
    _series("language", _L, "h100", 36, 0.0030, (0.35, 0.80, 15)),
    _series("language", _T, "h100", 60, 0.0020, (0.25, 0.60, 17)),
    _series("risk", _C, "l4", 14, 0.0000, (0.50, 1.10, 2)),
    _series("risk", _T, "a100", 18, 0.0010, (0.30, 0.40, 11)),
    _series("search", _C, "a100", 14, 0.0005, (0.45, 1.15, 3)),
    _series("search", _L, "a100", 28, 0.0015, (0.40, 0.90, 20)),
    _series("search", _L, "l4", 22, 0.0010, (0.45, 0.95, 20)),
    _series("vision", _L, "l4", 18, 0.0020, (0.40, 0.70, 13)),
    _series("vision", _T, "a100", 34, 0.0005, (0.25, 0.50, 16)),
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
"""By what an event multiplies a class's demand; a pair that is not here is not moved."""


def calendar() -> pl.DataFrame:
    """Return the events that are known ahead (EVENTS): releases, campaigns and holidays."""
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
    """Return an event that comes back."""
    starts = [ANCHOR + timedelta(days=day) for day in range(first, EVENT_DAYS, every)]
    return [(start, start + timedelta(days=days), kind, tenant) for start in starts]
