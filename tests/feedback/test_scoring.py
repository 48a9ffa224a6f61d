"""The score's figures, each against a small case worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from tests.feedback.builders import a_forecast, a_plan, an_outcome

from gangplan import feedback
from gangplan.errors import InputError
from gangplan.tables import PLAN_SHORTAGE
from gangplan.types import GangRequest, PodSet, Reservation, ReservationId, ReservationState


def with_gpus(outcome: Any, gpus: Any) -> Any:
    """Set the demand of every hour and series."""
    return replace(outcome, demand=outcome.demand.with_columns(gpus))


def a_reservation(at: datetime, *, waited: timedelta | None, promised: timedelta | None) -> Reservation:
    """A reservation submitted at `at`."""
    granted = None if waited is None else at + waited
    return Reservation(
        id=ReservationId("r"),
        request=GangRequest(
            request_key="k",
            tenant="vision",
            pod_sets=(PodSet(count=2, gpus_per_pod=4),),
            accelerators=("h100",),
            duration=timedelta(hours=1),
        ),
        state=ReservationState.WAITING if granted is None else ReservationState.GRANTED,
        submitted_at=at,
        granted_at=granted,
        first_eta=None if promised is None else at + promised,
    )


def test_wql_is_the_protocols() -> None:
    """WQL is 100 x 2 x mean pinball over quantiles and hours / mean demand, as counted by hand for one hour."""
    one = a_forecast(count=1).quantiles.filter(pl.col("tenant") == "risk")
    flat = one.with_columns(**{"q0.1": 8.0, "q0.5": 10.0, "q0.9": 14.0, "q0.95": 15.0, "q0.99": 20.0})
    forecast = replace(a_forecast(count=1), quantiles=flat.with_columns(pl.col("^q.*$").cast(pl.Float64)))
    score = feedback.score(a_plan(count=1), forecast, with_gpus(an_outcome(count=1), pl.lit(12.0).alias("gpus")))
    losses = 0.1 * 4, 0.5 * 2, 0.1 * 2, 0.05 * 3, 0.01 * 8
    assert score.wql == pytest.approx(100 * 2 * sum(losses) / 5 / 12)
    assert score.by_series.select("wql", "bias", "coverage_80", "hours").row(0) == pytest.approx(
        (score.wql, -2.0, 1.0, 1)
    )


def test_true_quantiles_cover_four_hours_in_five() -> None:
    """The true distribution's quantiles cover about 80 %, and the width asked for is about 1."""
    score = feedback.score(a_plan(count=1000), a_forecast(count=1000), an_outcome(count=1000))
    assert score.coverage_80 == pytest.approx(0.8, abs=0.03)
    assert score.by_series["width"].is_between(0.92, 1.08).all()


def test_missing_hours_are_kept_out() -> None:
    """An hour without telemetry counts neither as demand of zero nor as idle nodes nor as money."""
    whole, outcome = a_plan(), an_outcome()
    gone = pl.col("hour") >= outcome.end - timedelta(hours=68)
    hidden = with_gpus(outcome, pl.when(~gone).then("gpus").alias("gpus"))
    shorter = replace(outcome, end=outcome.end - timedelta(hours=68))
    by_null, by_end = (feedback.score(whole, a_forecast(), one) for one in (hidden, shorter))
    assert by_null.by_series.equals(by_end.by_series)
    assert by_null.realised_cost == by_end.realised_cost
    assert by_null.idle_gpu_hours == by_end.idle_gpu_hours


def test_one_missing_series_keeps_out_its_accelerator_alone() -> None:
    """Where one series of an accelerator is missing, that accelerator's cell is left out and the others count."""
    hidden = pl.when(pl.col("tenant") != "vision").then("gpus").alias("gpus")
    score = feedback.score(a_plan(count=10), a_forecast(count=10), with_gpus(an_outcome(count=10), hidden))
    assert score.planned_cost == pytest.approx(10 * 7 * 4)  # the a100 nodes alone
    assert score.by_series.height == 2


def test_idle_unserved_and_money() -> None:
    """Latency work beyond the firm nodes is unserved at three times the plan's price; nodes beyond demand are idle."""
    plan = replace(a_plan(count=4, h100=10, a100=5), settings={"shortage_price": 7.0})
    vision = pl.when(pl.col("tenant") == "vision").then(100.0).otherwise(0.0).alias("gpus")
    score = feedback.score(plan, a_forecast(count=4), with_gpus(an_outcome(count=4), vision))
    assert score.unserved_gpu_hours == pytest.approx(4 * 20)
    assert score.idle_gpu_hours == pytest.approx(4 * 20)
    assert score.planned_cost == pytest.approx(4 * (10 * 16 + 5 * 4))
    assert score.realised_cost == pytest.approx(score.planned_cost + 4 * 20 * 3 * 7)


def test_foreseen_shortage_is_in_the_planned_cost() -> None:
    """What the plan expected to lack is priced in the planned cost, over the common hours alone."""
    base = a_plan(count=48)
    rows = (
        base.nodes.select("hour")
        .unique()
        .with_columns(
            tenant=pl.lit("language"),
            workload_class=pl.lit("throughput"),
            accelerator=pl.lit("h100"),
            expected_gpus=pl.lit(2.0),
            p95_gpus=pl.lit(9.0),
            probability=pl.lit(0.1),
        )
    )
    plan = replace(base, shortage=rows.select(list(PLAN_SHORTAGE)), settings={"shortage_price": 5.0})
    scores = [feedback.score(one, a_forecast(count=48), an_outcome(count=24)) for one in (base, plan)]
    assert scores[1].planned_cost - scores[0].planned_cost == pytest.approx(24 * 2 * 5)


def test_waits_and_eta_errors(start: datetime) -> None:
    """Waits are of the granted; an ETA's error is its distance from the grant, early or late."""
    minutes = [timedelta(minutes=count) for count in range(31)]
    lived = (
        a_reservation(start, waited=minutes[0], promised=None),
        a_reservation(start, waited=minutes[20], promised=minutes[30]),
        a_reservation(start, waited=minutes[10], promised=minutes[8]),
        a_reservation(start, waited=None, promised=minutes[5]),
    )
    score = feedback.score(a_plan(), a_forecast(), replace(an_outcome(), reservations=lived))
    assert score.mean_wait_s == pytest.approx(600)
    assert score.mean_eta_error_s == pytest.approx(360)


def test_no_reservation_has_no_wait() -> None:
    """Without reservations there is no mean wait, which is not a wait of zero."""
    score = feedback.score(a_plan(), a_forecast(), an_outcome())
    assert score.mean_wait_s is None
    assert score.mean_eta_error_s is None


@pytest.mark.parametrize("why", ["later", "missing"])
def test_no_common_hour_is_refused(why: str) -> None:
    """An outcome that shares no known hour with the plan is refused, and both spans are named."""
    outcome = an_outcome(start=datetime(2026, 5, 1, tzinfo=UTC)) if why == "later" else an_outcome()
    if why == "missing":
        outcome = with_gpus(outcome, pl.lit(None, pl.Float64).alias("gpus"))
    with pytest.raises(InputError, match=r"no known hour of plan plan-1 \(2026-02-23T00:00Z to .*gangplan ingest"):
        feedback.score(a_plan(), a_forecast(), outcome)


def test_a_score_says_what_the_forecast_held() -> None:
    """The beliefs that were in the forecast are named, so that its error is added to them."""
    forecast = replace(a_forecast(), corrected_by="run-7")
    assert feedback.score(a_plan(), forecast, an_outcome()).corrected_by == "run-7"


def test_a_series_without_demand_has_figures() -> None:
    """A series that asked for nothing gives finite figures, not a division by zero."""
    nothing = pl.when(pl.col("tenant") == "risk").then(0.0).otherwise("gpus").alias("gpus")
    table = feedback.score(a_plan(), a_forecast(), with_gpus(an_outcome(), nothing)).by_series
    assert table.select(pl.selectors.float().is_finite().all()).row(0) == (True,) * 6
