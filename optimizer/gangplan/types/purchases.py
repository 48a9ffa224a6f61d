"""A plan of purchases, months ahead: what to buy for which term, what that earns, when each pool is full."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """Nodes of a committed pool, bought for a term: order them by a day, they run from one day up to another."""

    pool: str
    months: int
    nodes: int
    order_by: date
    begins: date
    ends: date
    price_per_node_hour: float


@dataclass(frozen=True, kw_only=True)
class PurchaseStrategy:
    """What one way to buy costs over the horizon, with shortage and delay at their prices.

    `expected` is the mean over the demand paths, `worst` the mean of the most expensive fifth of them. `more` is the
    mean extra cost over the plan's, `more_low` and `more_high` its 10 % and 90 % quantiles. `terms` is the money for
    purchases, `taken` the mean money for nodes by the hour, `bound` the counted share of the money that is bound beyond
    the horizon, `short_gpu_hours` the mean of the GPU-hours that were not served.
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
    """What the purchase of an offer saves, compared with a plan without it (no months: without any offer of the pool).

    `earns` is the mean over the demand paths, `low` and `high` are the 10 % and 90 % quantiles, `worst` is the
    difference of the means over the most expensive fifth of each; `loses` is the share of paths with a loss.
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
    """The month from which a pool runs all its nodes in some hours of a typical week.

    By that month 10, 50 and 90 % of the demand paths fill the pool; None where that is beyond the horizon.
    """

    pool: str
    early: date | None
    middle: date | None
    late: date | None


@dataclass(frozen=True, kw_only=True)
class Commitments:
    """A plan of purchases, months ahead.

    `standing` has the GPUs of purchases by month (month, pool, kind, gpus), `demand` the demand in GPUs (month,
    accelerator, q0.1, q0.5 and q0.9 of the month's mean, peak0.5 and peak0.9 of its busiest hours).
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
