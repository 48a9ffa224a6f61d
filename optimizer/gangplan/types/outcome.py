"""What happened against the plan: outcomes, scores, what was learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gangplan.types.demand import Beliefs, Forecast
from gangplan.types.reservation import Reservation

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What really happened in a span that was planned: demand, and the reservations that lived in it."""

    start: datetime
    end: datetime
    demand: pl.DataFrame
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """Planned against happened, over one span; `corrected_by` as the scored forecast's."""

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
    corrected_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What feedback changed: the score, the beliefs drawn from it, and the forecast before and after them."""

    score: Score
    beliefs: Beliefs
    before: Forecast
    after: Forecast
