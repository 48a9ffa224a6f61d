"""What a look months ahead hands over: what to buy for which term, what that earns, when each pool is full."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """Nodes of a committed pool for a term: to be ordered by, standing from, up to a day, at money per node-hour."""

    pool: str
    months: int
    nodes: int
    order_by: date
    begins: date
    ends: date
    price_per_node_hour: float


@dataclass(frozen=True, kw_only=True)
class PurchaseStrategy:
    """What a way to buy counts over the horizon: all money, shortage and delay at their prices, and `bound`.

    `expected` is the mean over the paths, `worst` the mean of the worst fifth; `more` is what it costs more than the
    plan in the mean, `more_low` and `more_high` in 10 and 90 % of the paths. `terms` and `taken` are the money for what
    was bought and (in the mean) for nodes by the hour, `bound` the share of what is bound beyond the horizon that
    counts, `short_gpu_hours` what went unserved in the mean.
    """

    name: str
    expected: float
    worst: float
    more: float
    more_low: float
    more_high: float
    terms: float
    bound: float
    taken: float
    short_gpu_hours: float


@dataclass(frozen=True, kw_only=True)
class PurchaseBenefit:
    """What buying an offer (or, with no months, any of a pool's) earns against solving again without it.

    `earns` is the mean over the paths, `low` and `high` are 10 and 90 %, `worst` is what it earns in the mean of the
    worst fifth of either; `loses` is the share of paths on which it loses.
    """

    pool: str
    months: int | None
    nodes: int
    earns: float
    low: float
    high: float
    worst: float
    loses: float


@dataclass(frozen=True, kw_only=True)
class PoolFull:
    """The month from which a pool runs all nodes that it may have in some hours of a typical week.

    In 10, 50 and 90 % of the paths; None where that lies beyond the horizon.
    """

    pool: str
    early: date | None
    middle: date | None
    late: date | None


@dataclass(frozen=True, kw_only=True)
class Commitments:
    """A plan of what to buy, months ahead.

    `standing` has the GPUs that stand by month (month, pool, kind, gpus), `demand` the GPUs asked for (month,
    accelerator, q0.1, q0.5, q0.9 of the month's mean, and of its busiest hours: peak0.5, peak0.9).
    """

    start: date
    end: date
    purchases: tuple[Purchase, ...]
    ways: tuple[PurchaseStrategy, ...]
    earnings: tuple[PurchaseBenefit, ...]
    full: tuple[PoolFull, ...]
    standing: pl.DataFrame
    demand: pl.DataFrame
    gap: float
    bound_beyond: float
    paths: int
    typical_weeks: int
    explanation: tuple[str, ...]
