"""What happened compared with the plan: outcomes, scores, what was learned."""

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
    """What happened from `start` up to `end`: the demand, and the reservations of that time."""

    start: datetime
    end: datetime
    demand: pl.DataFrame
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a plan and its forecast did from `start` up to `end`.

    WQL is in per cent of mean demand, coverage a share from 0 to 1, cost in the fleet file's currency, waits and errors
    of ETAs in seconds. `corrected_by` is the run id of the beliefs in the scored forecast.
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
    corrected_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What feedback changed: the score, the beliefs learned from it, and the forecasts before and after."""

    score: Score
    beliefs: Beliefs
    before: Forecast
    after: Forecast
