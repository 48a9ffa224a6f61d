"""The strip of figures at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gangplan.pages import NOTHING, Tile, duration, moment, number, share
from gangplan.report.demand import total_forecast
from gangplan.types import SERIES, Forecast, Plan, Reservation, Training, Usage


def tiles(
    *, usage: Usage, training: Training, forecast: Forecast, plan: Plan, reservations: Sequence[Reservation]
) -> tuple[Tile, ...]:
    """Return the strip."""
    return (
        demand_now(usage),
        peak_ahead(forecast),
        forecast_loss(training),
        plan_cost(plan),
        shortage_risk(plan),
        waits(reservations),
    )


def demand_now(usage: Usage) -> Tile:
    """Show the newest known demand of all series together."""
    known = usage.demand.drop_nulls("gpus").sort("hour")
    if known.is_empty():
        return Tile(name="Demand now", value=NOTHING, unit="", note="no hour of demand is known")
    last = known.group_by(SERIES, maintain_order=True).last()
    note = f"{last.height} series, last hour {moment(known['hour'][-1])} UTC"
    return Tile(name="Demand now", value=number(float(last["gpus"].sum())), unit="GPUs", note=note)


def peak_ahead(forecast: Forecast) -> Tile:
    """Show the highest hour of the median, and the highest 0.95 quantile."""
    ahead = total_forecast(forecast.quantiles)
    if ahead.is_empty():
        return Tile(name="Peak ahead", value=NOTHING, unit="", note="there is no forecast")
    peak = ahead.sort("q0.5", descending=True).row(0, named=True)
    note = f"median, {moment(peak['hour'])} UTC; 0.95: {number(max(ahead['q0.95'].to_list()))} GPUs"
    return Tile(name="Peak ahead", value=number(peak["q0.5"]), unit="GPUs", note=note)


def forecast_loss(training: Training) -> Tile:
    """Show the loss of the back-test beside naive's."""
    gain = 1 - training.wql / training.naive_wql if training.naive_wql else 0.0
    verdict = f"{share(abs(gain))} {'less' if gain >= 0 else 'more'} than naive's {number(training.naive_wql, 1)}"
    return Tile(name="Forecast loss (WQL)", value=number(training.wql, 1), unit="%", note=verdict)


def plan_cost(plan: Plan) -> Tile:
    """Show the money, and over how long."""
    hours = plan.nodes["hour"].n_unique()
    each = number(plan.total_cost / max(hours, 1))
    note = f"over {hours} h; {each} an hour; gap {share(plan.gap, 2)}"
    return Tile(name="Plan cost", value=number(plan.total_cost), unit="", note=note)


def shortage_risk(plan: Plan) -> Tile:
    """Show the worst hour's shortage at 0.95, and what is expected in total."""
    hourly = (
        plan.shortage.group_by("hour", maintain_order=True)
        .agg(pl.col("p95_gpus").sum())
        .sort("p95_gpus", "hour", descending=[True, False])
    )
    expected = float(plan.shortage["expected_gpus"].sum())
    if hourly.is_empty() or hourly["p95_gpus"][0] <= 0:
        return Tile(name="Shortage at 0.95", value="0", unit="GPUs", note="nobody is short in any hour")
    note = f"worst hour {moment(hourly['hour'][0])} UTC; {number(expected, 1)} GPU-hours expected in all"
    return Tile(name="Shortage at 0.95", value=number(hourly["p95_gpus"][0]), unit="GPUs", note=note)


def waits(reservations: Sequence[Reservation]) -> Tile:
    """Show how long granted reservations waited, and how many wait."""
    waited = [reservation.waited.total_seconds() for reservation in reservations if reservation.waited is not None]
    waiting = sum(reservation.state.waits for reservation in reservations)
    if not reservations:
        return Tile(name="Mean wait", value=NOTHING, unit="", note="no reservation yet")
    note = f"longest {duration(max(waited, default=None))}; {len(reservations)} reservations, {waiting} waiting now"
    return Tile(name="Mean wait", value=duration(sum(waited) / len(waited) if waited else None), unit="", note=note)
