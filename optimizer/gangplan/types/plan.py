"""A plan, the calendar that it publishes, and how it did when its time was over."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NewType

from gangplan.clock import require_utc
from gangplan.errors import InputError
from gangplan.types.checks import require_at_least
from gangplan.types.demand import Beliefs, Forecast
from gangplan.types.fleet import Fleet, Pool
from gangplan.types.reservation import Reservation

if TYPE_CHECKING:
    import polars as pl

PlanId = NewType("PlanId", str)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many nodes each pool runs in each hour, what that costs, and who is short of GPUs, when and why.

    Frames (see `gangplan.tables`): `nodes` by hour and pool, `shortage` by hour and series in GPUs, `cost` by pool,
    `limits` that bind, with the hours, the amount and the money, `caps` on GPUs by hour, pool and class, where their
    curves were measured. Money is the fleet file's currency.
    """

    plan_id: PlanId
    issued_at: datetime
    status: str
    gap: float
    total_cost: float
    nodes: pl.DataFrame
    cost: pl.DataFrame
    shortage: pl.DataFrame
    limits: pl.DataFrame
    explanation: tuple[str, ...]
    seed: int
    fleet: Fleet
    forecast_model: str
    settings: dict[str, float | None] = field(
        default_factory=dict[str, "float | None"]
    )  # the settings it was solved with
    caps: pl.DataFrame | None = None
    warm_start: bytes = field(default=b"", repr=False, compare=False)  # the solver starts later questions from it
    inputs: dict[str, Any] = field(default_factory=dict[str, "Any"])  # plain values: policy, previous plan, held nodes
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class CapacityInterval:
    """A pool's planned nodes from `start` up to `end`."""

    pool: str
    start: datetime
    end: datetime
    nodes: int

    def __post_init__(self) -> None:
        require_utc("start", self.start)
        require_utc("end", self.end)
        require_at_least("nodes", self.nodes, 0)
        if self.end <= self.start:
            raise InputError("end", self.end.isoformat(), f"must be later than start {self.start.isoformat()}")


@dataclass(frozen=True, kw_only=True)
class CapacityCalendar:
    """The capacity that the ledger may promise: the pools, and their nodes over time.

    Before its first interval a pool has no nodes; after its last one it keeps the last count.
    """

    plan_id: PlanId
    pools: tuple[Pool, ...]
    intervals: tuple[CapacityInterval, ...]

    def __post_init__(self) -> None:
        names = {pool.name for pool in self.pools}
        for interval in self.intervals:
            if interval.pool not in names:
                raise InputError.unknown("pool", interval.pool, "not in the calendar's pools", sorted(names))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened from `start` up to `end`: the demand, and the reservations of that time."""

    start: datetime
    end: datetime
    demand: pl.DataFrame
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a plan and its forecast did from `start` up to `end`.

    WQL is in per cent of mean demand, coverage a share from 0 to 1, cost in the fleet file's currency, waits and errors
    of ETAs in seconds. `compared` (tables.COMPARED) holds the hours that were scored. `corrected_by` is the run id of
    the beliefs in the scored forecast.
    """

    start: datetime
    end: datetime
    wql: float
    coverage_80: float
    planned_cost: float
    realised_cost: float
    unserved_gpu_hours: float
    idle_gpu_hours: float
    mean_wait_s: float | None
    mean_eta_error_s: float | None
    by_series: pl.DataFrame
    compared: pl.DataFrame
    corrected_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What feedback changed: the score, the beliefs learned from it, and the forecasts before and after."""

    score: Score
    beliefs: Beliefs
    before: Forecast
    after: Forecast
