"""Demand: what was asked for, what is forecast, and how feedback corrects the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

QUANTILES = (0.1, 0.5, 0.9, 0.95, 0.99)
"""The levels that every demand model predicts."""

SERIES = ("tenant", "workload_class", "accelerator")
"""The columns that name a demand series."""

ANY = "any"
"""The accelerator of demand that any pool may serve."""


class WorkloadClass(StrEnum):
    """What limits a workload, and so how it may be served."""

    LATENCY = "latency"  # serving: capacity ahead of demand
    THROUGHPUT = "throughput"  # training: may be deferred within a window
    COST = "cost"  # batch: the cheapest capacity, may be interrupted


@dataclass(frozen=True, kw_only=True)
class ClassRule:
    """How work of a class is served: by default in the plan, and always when a plan is scored.

    `defer_hours` is how long it may wait, `spot` whether it may run on nodes that can be taken away, `shortage_factor`
    a factor on the setting `shortage_price`, the money per GPU-hour that is not served.
    """

    defer_hours: int
    spot: bool
    shortage_factor: float


CLASS_RULES = {
    WorkloadClass.LATENCY: ClassRule(defer_hours=0, spot=False, shortage_factor=3.0),
    WorkloadClass.THROUGHPUT: ClassRule(defer_hours=12, spot=True, shortage_factor=1.0),
    WorkloadClass.COST: ClassRule(defer_hours=24, spot=True, shortage_factor=0.5),
}


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """Hours of a series that telemetry counted far off what the ledger was asked for, so that they are not believed.

    `series` is tenant/workload class/accelerator. `counted_gpus` is the mean that telemetry told, `expected_gpus` what
    the ledger's word for the same hours lets expect.
    """

    series: str
    start: datetime
    end: datetime
    counted_gpus: float
    expected_gpus: float

    def __str__(self) -> str:
        """Return it as a sentence."""
        span = f"{self.start:%Y-%m-%d %H:00} to {self.end:%Y-%m-%d %H:00} UTC"
        return (
            f"quarantined: {self.series}, {span}: telemetry counts {self.counted_gpus:g} GPUs where the ledger lets "
            f"expect {self.expected_gpus:g}; not learned from until `gangplan quarantine release {self.series}`"
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How many GPUs were asked for, and all other telemetry, from `start` up to `end`.

    `demand` is hourly and counts the GPUs of running and queued work; a missing hour is a null, never a zero.
    `notes` say what a reader must know about the import: what was left out and why, and what was assumed. The demand of
    `quarantined` hours is null. `known_until` is the end of the last hour that was delivered, where `end` is later.
    `live`: the source watches the cluster that is reserved. `reserved` are the ledger's jobs, which are in `jobs` too.
    """

    source: str
    sha256: str
    start: datetime
    end: datetime
    demand: pl.DataFrame
    jobs: pl.DataFrame
    nodes: pl.DataFrame
    queue: pl.DataFrame
    requests: pl.DataFrame
    events: pl.DataFrame
    run_id: str | None = None
    announced: pl.DataFrame | None = None  # tables.ANNOUNCED; its events are in `events` too
    notes: tuple[str, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()
    known_until: datetime | None = None
    live: bool = False
    reserved: pl.DataFrame | None = None  # tables.JOBS


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Quantiles of hourly GPU demand by series, from `issued_at` on.

    `corrected_by` is the run id of the beliefs that already changed the quantiles, so that feedback adds to them.
    `stands_out` names the series whose next hours the nowcast corrected, and says why. `known_until` is the end of the
    last hour of telemetry that it knew.
    """

    issued_at: datetime
    model: str
    quantiles: pl.DataFrame
    run_id: str | None = None
    corrected_by: str | None = None
    stands_out: tuple[str, ...] = ()
    known_until: datetime | None = None

    @property
    def age(self) -> timedelta:
        """How old its last known hour was when it was issued."""
        return timedelta() if self.known_until is None else self.issued_at - self.known_until


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: the registered version, its back-test, and whether it became the champion.

    WQL (weighted quantile loss) is in per cent of mean demand; `notes` name the series that the model could not learn,
    and why.
    """

    run_id: str
    version: str
    wql: float
    naive_wql: float
    coverage_80: float
    promoted: bool
    reason: str
    backtest: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """What feedback learned about the forecast's error: for each series a factor on its level and one on its width."""

    made_at: datetime
    corrections: pl.DataFrame
    run_id: str | None = None
