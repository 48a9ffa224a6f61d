"""Planned against happened: the forecast's loss, the plan's money, the reservations' waits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

from gangplan.errors import InputError
from gangplan.feedback import costs
from gangplan.tables import SCORE_BY_SERIES, conform, pinball_loss
from gangplan.types import SERIES, Forecast, Outcome, Plan, Reservation, Score

_HOUR = timedelta(hours=1)
_MEDIAN = pl.col("q0.5")
_GPUS = pl.col("gpus")


def score(plan: Plan, forecast: Forecast, outcome: Outcome) -> Score:
    """Hold a plan and its forecast against what happened, over the hours that all three hold.

    Hours whose demand is missing (null) are kept out. WQL is 100 x 2 x mean pinball loss over all quantiles and hours
    / mean demand; coverage is the share of hours within [q0.1, q0.9]. Money is the fleet file's currency; how it is
    counted is said in `gangplan.feedback.costs`. Waits are of the reservations that were granted, in seconds; an ETA's
    error is the absolute difference between the first one given and the grant.

    Raises
    ------
    InputError
        No hour is held by plan, forecast and outcome alike, or the demand of all of those is missing.
    """
    compared = _compare(plan, forecast, outcome)
    if compared.is_empty():
        raise _nothing_common(plan, forecast, outcome)
    first, last = _span(compared["hour"])
    money = costs.settle(plan, outcome, first, last)
    waited, missed = _waits(outcome.reservations), _eta_errors(outcome.reservations)
    overall = compared.select(_wql().alias("wql"), _coverage().alias("coverage")).row(0, named=True)
    return Score(
        start=first,
        end=last,
        wql=overall["wql"],
        coverage_80=overall["coverage"],
        planned_cost=money.planned,
        realised_cost=money.realised,
        unserved_gpu_hours=money.unserved_gpu_hours,
        idle_gpu_hours=money.idle_gpu_hours,
        mean_wait_s=_mean(waited),
        mean_eta_error_s=_mean(missed),
        by_series=_by_series(compared),
        corrected_by=forecast.corrected_by,
    )


def _compare(plan: Plan, forecast: Forecast, outcome: Outcome) -> pl.DataFrame:
    """Put each forecast hour of each series beside what happened in it."""
    happened = outcome.demand.filter(_GPUS.is_not_null(), pl.col("hour").is_between(outcome.start, outcome.end, "left"))
    planned = plan.nodes.select("hour").unique()
    both = forecast.quantiles.join(happened, on=["hour", *SERIES], how="inner")
    return both.join(planned, on="hour", how="semi").sort(*SERIES, "hour")


def _by_series(compared: pl.DataFrame) -> pl.DataFrame:
    """Score each series by itself."""
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
    """100 x 2 x mean pinball / mean demand; a demand below one GPU-hour in all counts as one."""
    return 100 * pinball_loss().sum() / pl.max_horizontal(_GPUS.sum(), pl.lit(1.0))


def _coverage() -> pl.Expr:
    """The share of hours in which demand lay within [q0.1, q0.9]."""
    return _GPUS.is_between("q0.1", "q0.9").mean()


def _needed_width() -> pl.Expr:
    """The 0.8 quantile of each hour's miss in units of its own fan, once the level is put right (conformal)."""
    levelled = _GPUS / pl.col("ratio")
    reach = pl.when(levelled >= _MEDIAN).then(pl.col("q0.9") - _MEDIAN).otherwise(_MEDIAN - pl.col("q0.1"))
    missed = pl.when(reach > 1e-9).then((levelled - _MEDIAN).abs() / reach)  # a fan without width says nothing
    return missed.filter(missed.is_finite()).quantile(0.8, "linear")


def _span(hours: pl.Series) -> tuple[datetime, datetime]:
    """Return the first hour and the end of the last."""
    first, last = hours.min(), hours.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise TypeError("hours must be times")  # our own bug: the frame is not empty
    return first, last + _HOUR


def _waits(reservations: Iterable[Reservation]) -> list[float]:
    """How long each granted reservation waited, in seconds."""
    return [one.waited.total_seconds() for one in reservations if one.waited is not None]


def _eta_errors(reservations: Iterable[Reservation]) -> list[float]:
    """How far each first ETA was from the grant, in seconds; those granted with none, or anew, say nothing of it."""
    pairs = [(one.granted_at, one.first_eta) for one in reservations if not one.interruptions]
    return [abs((granted - eta).total_seconds()) for granted, eta in pairs if granted is not None and eta is not None]


def _mean(values: list[float]) -> float | None:
    """The mean, or none of nothing."""
    return sum(values) / len(values) if values else None


def _nothing_common(plan: Plan, forecast: Forecast, outcome: Outcome) -> InputError:
    """Say which hours the plan holds and which the outcome does."""
    hours = plan.nodes["hour"]
    planned = "no hours" if hours.is_empty() else " to ".join(f"{time:%Y-%m-%dT%H:%MZ}" for time in _span(hours))
    return InputError(
        "outcome",
        f"{outcome.start:%Y-%m-%dT%H:%MZ} to {outcome.end:%Y-%m-%dT%H:%MZ}",
        f"holds no known hour of plan {plan.plan_id} ({planned}) and of the forecast made at "
        f"{forecast.issued_at:%Y-%m-%dT%H:%MZ}: bring in newer telemetry with `gangplan ingest`",
    )
