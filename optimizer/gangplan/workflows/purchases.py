"""Purchases for months ahead: from telemetry and its growth, or a table of demand, to what to buy for which term."""

from __future__ import annotations

from pathlib import Path

from gangplan import forecast, plan, telemetry
from gangplan.config import Settings, read_fleet
from gangplan.errors import NotFoundError
from gangplan.forecast import Panel
from gangplan.plan import History, LongDemand, PurchaseHorizon
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.types import Commitments
from gangplan.workflows.present import refuse_old


def look_ahead(
    settings: Settings, horizon: PurchaseHorizon, demand: Path | None = None, progress: Progress = no_progress
) -> Commitments:
    """Find what to buy for which term; nothing is written.

    Demand is that of the telemetry with its growth, or the table in the file `demand`.
    """
    fleet, catalogue = read_fleet(settings.fleet_file), plan.read_catalogue(settings.catalogue_file)
    progress(0.0, 1, "typical weeks and growth")
    foreseen = _from_growth(settings, horizon) if demand is None else _from_table(settings, horizon, demand)
    policy = plan.read_plan_policy(settings.plan_policy_file)
    return plan.plan_purchases(
        foreseen, fleet, horizon, settings, policy=policy, catalogue=catalogue, progress=progress
    )


def _from_growth(settings: Settings, horizon: PurchaseHorizon) -> LongDemand:
    """Return the telemetry's demand, multiplied by the growth of each accelerator's demand."""
    panel = _panel(settings)
    days = horizon.days_from(panel.end.date())
    _total, *trends = forecast.forecast_growth(panel, by="accelerator", days=days, seed=settings.seed)
    return plan.demand_from_growth(_history(panel), {trend.name: trend.paths for trend in trends}, horizon)


def _from_table(settings: Settings, horizon: PurchaseHorizon, path: Path) -> LongDemand:
    """Return a table's demand, with the typical weeks of the telemetry if there is any."""
    try:
        history = _history(_panel(settings))
    except NotFoundError:
        history = None
    return plan.demand_from_table(path, history, horizon)


def _panel(settings: Settings) -> Panel:
    usage = telemetry.read_usage(open_store(settings), settings.clock())
    refuse_old(usage.end, settings)
    return forecast.from_usage(usage)


def _history(panel: Panel) -> History:
    return History(series=panel.keys, values=panel.values, start=panel.start)
