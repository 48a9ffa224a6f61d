"""Demand: what was used, what is forecast, and what is believed about the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
    """What a workload is bound by, and so how it may be served."""

    LATENCY = "latency"  # serving: capacity ahead of demand
    THROUGHPUT = "throughput"  # training: may be deferred within a window
    COST = "cost"  # batch: the cheapest capacity, may be interrupted


@dataclass(frozen=True, kw_only=True)
class ClassRule:
    """How work of a class may be served: by default in the plan, and always when a plan is scored afterwards.

    `defer_hours` is how long it may wait, `spot` whether nodes that may be taken away serve it, `shortage_factor` the
    price of an unserved GPU-hour as a multiple of the setting `shortage_price`.
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
class Usage:
    """What was asked of the GPUs: the telemetry of one span of hours.

    `demand` is hourly and counts GPUs as asked for (running and queued); a missing hour is a null, never a zero.
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
    announced: pl.DataFrame | None = None  # tables.ANNOUNCED: what people said; its events are in `events` too


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Quantiles of hourly GPU demand by series, from `issued_at` on.

    `corrected_by` is the run id of the beliefs that are already in the quantiles, so that feedback adds to them.
    `stands_out` says which series' next hours were corrected by the nowcast, and why.
    """

    issued_at: datetime
    model: str
    quantiles: pl.DataFrame
    run_id: str | None = None
    corrected_by: str | None = None
    stands_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """One retraining: what was registered, how it did in the back-test, and whether it steers now.

    WQL is in per cent of mean demand; `notes` say in words which series the model could not learn, and why.
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
    """What feedback has learned about the forecast's error: per series a level factor and a width factor."""

    made_at: datetime
    corrections: pl.DataFrame
    run_id: str | None = None
