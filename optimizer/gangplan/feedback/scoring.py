"""The plan compared with what happened: the forecast's loss, the plan's cost, the reservations' waits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from statistics import fmean

import polars as pl

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.feedback.costs import costs_of
from gangplan.tables import COMPARED, SCORE_BY_SERIES, conform, pinball_loss
from gangplan.types import SERIES, Forecast, Outcome, Plan, Reservation, Score

_MEDIAN = pl.col("q0.5")
_GPUS = pl.col("gpus")


def score(plan: Plan, forecast: Forecast, outcome: Outcome) -> Score:
    """Compare a plan and its forecast with what happened, over the hours that plan, forecast and outcome share.

    Hours with missing demand (null) do not count. WQL is 100 x 2 x mean pinball loss over all quantiles and hours
    / mean demand; coverage is the share of hours within [q0.1, q0.9]. `gangplan.feedback.costs` explains the costs.
    Waits are those of granted reservations, in seconds; the error of an ETA is the absolute difference between the
    first ETA and the grant.

    Raises
    ------
    InputError
        Plan, forecast and outcome share no hour, or the demand of all shared hours is missing.
    """
    compared = _compare(plan, forecast, outcome)
    if compared.is_empty():
        raise _nothing_common(plan, forecast, outcome)
    first, last = _span(compared["hour"])
    waits = [row.waited.total_seconds() for row in outcome.reservations if row.waited is not None]
    misses = _eta_errors(outcome.reservations)
    overall = compared.select(_wql().alias("wql"), _coverage().alias("coverage")).row(0, named=True)
    return Score(
        start=first,
        end=last,
        wql=overall["wql"],
        coverage_80=overall["coverage"],
        **vars(costs_of(plan, outcome, first, last)),
        mean_wait_s=fmean(waits) if waits else None,
        mean_eta_error_s=fmean(misses) if misses else None,
        by_series=by_series(compared),
        compared=conform("compared", compared, COMPARED),
        corrected_by=forecast.corrected_by,
    )


def _compare(plan: Plan, forecast: Forecast, outcome: Outcome) -> pl.DataFrame:
    """Join the forecast of each hour and series with the demand that came."""
    demand = outcome.demand.filter(_GPUS.is_not_null(), pl.col("hour").is_between(outcome.start, outcome.end, "left"))
    planned = plan.nodes.select("hour").unique()
    both = forecast.quantiles.join(demand, on=["hour", *SERIES], how="inner")
    return both.join(planned, on="hour", how="semi").sort(*SERIES, "hour")


def by_series(compared: pl.DataFrame) -> pl.DataFrame:
    """Return the score of each series (SCORE_BY_SERIES) in the hours that were compared (COMPARED)."""
    levelled = compared.with_columns((_GPUS.sum() / _MEDIAN.sum()).over(SERIES).alias("ratio"))
    rows = levelled.group_by(SERIES, maintain_order=True).agg(
        _wql().alias("wql"),
        (_MEDIAN - _GPUS).mean().alias("bias"),
        (_MEDIAN - _GPUS).std(ddof=0).alias("error_sd"),
        _coverage().alias("coverage_80"),
        _needed_width().fill_null(1.0).fill_nan(1.0).alias("width"),
        _GPUS.mean().alias("mean_gpus"),
        pl.len().alias("hours"),
    )
    return conform("by_series", rows, SCORE_BY_SERIES)


def _wql() -> pl.Expr:
    """Return 100 x 2 x mean pinball loss / mean demand; a total demand below one GPU-hour counts as one."""
    return 100 * pinball_loss().sum() / pl.max_horizontal(_GPUS.sum(), pl.lit(1.0))


def _coverage() -> pl.Expr:
    """Return the share of hours in which demand was within [q0.1, q0.9]."""
    return _GPUS.is_between("q0.1", "q0.9").mean()


def _needed_width() -> pl.Expr:
    """Return the factor on the forecast's width that would have covered 80 % of the hours, with the level corrected.

    It is the 0.8 quantile of the hourly errors, each divided by the width of that forecast (conformal prediction).
    """
    levelled = _GPUS / pl.col("ratio")
    reach = pl.when(levelled >= _MEDIAN).then(pl.col("q0.9") - _MEDIAN).otherwise(_MEDIAN - pl.col("q0.1"))
    missed = pl.when(reach > 1e-9).then((levelled - _MEDIAN).abs() / reach)  # a forecast without width tells nothing
    return missed.filter(missed.is_finite()).quantile(0.8, "linear")


def _span(hours: pl.Series) -> tuple[datetime, datetime]:
    times: list[datetime] = hours.sort().to_list()
    return times[0], times[-1] + HOUR


def _eta_errors(reservations: Iterable[Reservation]) -> list[float]:
    """Return how far each first ETA was from the grant, in seconds; interrupted reservations do not count."""
    pairs = [(row.granted_at, row.first_eta) for row in reservations if not row.interruptions]
    return [abs((granted - eta).total_seconds()) for granted, eta in pairs if granted is not None and eta is not None]


def _nothing_common(plan: Plan, forecast: Forecast, outcome: Outcome) -> InputError:
    """Return the error that names the hours of the plan and of the outcome."""
    hours = plan.nodes["hour"]
    planned = "no hours" if hours.is_empty() else " to ".join(f"{time:%Y-%m-%dT%H:%MZ}" for time in _span(hours))
    return InputError(
        "outcome",
        f"{outcome.start:%Y-%m-%dT%H:%MZ} to {outcome.end:%Y-%m-%dT%H:%MZ}",
        f"holds no known hour of plan {plan.plan_id} ({planned}) and of the forecast made at "
        f"{forecast.issued_at:%Y-%m-%dT%H:%MZ}: bring in newer telemetry with `gangplan ingest`",
    )
