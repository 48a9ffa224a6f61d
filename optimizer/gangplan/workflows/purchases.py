"""Purchases for months ahead: from telemetry and its growth, or a table of demand, to what to buy for which term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gangplan import forecast, plan, telemetry
from gangplan.config import Settings, read_fleet
from gangplan.errors import NotFoundError
from gangplan.forecast import Panel
from gangplan.plan import (
    BEYOND,
    LongDemand,
    buy_ahead,
    days_of,
    from_table,
    monthly_paths,
    pose_horizon,
    read_catalogue,
    read_demand_table,
    typical_weeks,
    with_offers,
)
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.types import Commitments


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to look ahead: how many months, demand paths and typical weeks; a table of demand instead of the trend."""

    months: int = 12
    paths: int = 10
    weeks: int = 2
    demand: Path | None = None
    beyond: float = BEYOND


def look_ahead(settings: Settings, look: Look, progress: Progress = no_progress) -> Commitments:
    """Find what to buy for which term; nothing is written."""
    fleet, note = with_offers(read_fleet(settings.fleet_file), read_catalogue(settings.catalogue_file))
    progress(0.0, 1, "typical weeks and growth")
    demand = _from_trend(settings, look) if look.demand is None else _from_table(settings, look, look.demand)
    policy = plan.read_plan_policy(settings.plan_policy_file)
    problem = pose_horizon(demand, fleet, settings=settings, policy=policy, beyond=look.beyond)
    made = buy_ahead(problem, progress)
    return replace(made, explanation=(*made.explanation, *([note] if note else [])))


def _from_trend(settings: Settings, look: Look) -> LongDemand:
    """Return typical weeks of the telemetry, multiplied by the growth of each accelerator's demand."""
    panel = _panel(settings)
    start = panel.end.date()
    trends = forecast.foresee_growth(panel, by="accelerator", days=days_of(start, look.months), seed=settings.seed)[1:]
    place = {trend.name: index for index, trend in enumerate(trends)}
    groups = [place[key[2]] for key in panel.keys]
    weeks, weights = typical_weeks(panel.values, panel.start, groups, look.weeks)
    means = monthly_paths(np.stack([trend.paths for trend in trends], axis=1), start, look.months, look.paths)
    return LongDemand(start=start, series=panel.keys, weeks=weeks, weights=weights, means=means[:, groups])


def _from_table(settings: Settings, look: Look, path: Path) -> LongDemand:
    """Return typical weeks of the telemetry (flat ones without telemetry), multiplied by a table's months."""
    table = read_demand_table(path)
    try:
        panel = _panel(settings)
    except NotFoundError:
        return from_table(table, look.paths, {}, np.ones(1))
    weeks, weights = typical_weeks(panel.values, panel.start, range(len(panel.keys)), look.weeks)
    known = {key: weeks[:, s] for s, key in enumerate(panel.keys) if weeks[:, s].any()}
    return from_table(table, look.paths, known, weights)


def _panel(settings: Settings) -> Panel:
    """Return the telemetry's demand as a panel of series."""
    return forecast.from_usage(telemetry.read_usage(open_store(settings)))
