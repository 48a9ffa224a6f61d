"""Forecast: from telemetry to quantiles of GPU demand, by models that are back-tested, gated and reviewed in MLflow.

Names are imported when they are first asked for: a served model needs none of what trains and reviews.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gangplan.forecast.models.lifts import measure_lifts
    from gangplan.forecast.outlook.growth import foresee_growth, when_full
    from gangplan.forecast.outlook.minutes_runs import Asked, MinuteForecast, foresee_minutes
    from gangplan.forecast.outlook.totals import sum_up
    from gangplan.forecast.promotion.due import open_questions, settle
    from gangplan.forecast.promotion.page import headline, write_page
    from gangplan.forecast.promotion.review import (
        ModelVersion,
        approve,
        challenger,
        list_versions,
        reject,
        rollback,
        show_version,
    )
    from gangplan.forecast.promotion.shadow import Standing, observe, standing
    from gangplan.forecast.registry.audit_log import Change, history, sync
    from gangplan.forecast.series.panel import from_usage
    from gangplan.forecast.training import backtest_forecast, predict, read_training, retrain
    from gangplan.forecast.watch.health import Health, watch_drift
    from gangplan.forecast.watch.health import Verdict as DriftVerdict
    from gangplan.forecast.watch.nowcast import correct_next_hours

_HOMES = {
    "audit": ("Change", "history", "sync"),
    "due": ("open_questions", "settle"),
    "growth": ("foresee_growth", "when_full"),
    "health": ("watch_drift", "Health", "DriftVerdict"),
    "lifts": ("measure_lifts",),
    "minutes_runs": ("Asked", "MinuteForecast", "foresee_minutes"),
    "nowcast": ("correct_next_hours",),
    "page": ("headline", "write_page"),
    "panel": ("from_usage",),
    "review": ("ModelVersion", "approve", "challenger", "list_versions", "reject", "rollback", "show_version"),
    "shadow": ("Standing", "observe", "standing"),
    "totals": ("sum_up",),
    "training": ("backtest_forecast", "predict", "read_training", "retrain"),
}

__all__ = [
    "foresee_growth",
    "measure_lifts",
    "correct_next_hours",
    "foresee_minutes",
    "Asked",
    "MinuteForecast",
    "sum_up",
    "from_usage",
    "watch_drift",
    "when_full",
    "retrain",
    "predict",
    "backtest_forecast",
    "read_training",
    "list_versions",
    "show_version",
    "write_page",
    "headline",
    "challenger",
    "approve",
    "reject",
    "rollback",
    "observe",
    "standing",
    "settle",
    "open_questions",
    "sync",
    "history",
    "ModelVersion",
    "Change",
    "Standing",
    "Health",
    "DriftVerdict",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
