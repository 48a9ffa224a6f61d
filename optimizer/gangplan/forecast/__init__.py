"""Forecast: from telemetry to quantiles of GPU demand, by models that are back-tested, gated and reviewed in MLflow."""

from gangplan.forecast.audit import Change, history, sync
from gangplan.forecast.due import open_questions, settle
from gangplan.forecast.growth import growth, when_full
from gangplan.forecast.health import watch_drift
from gangplan.forecast.lifts import measure as measure_lifts
from gangplan.forecast.nowcast import nowcast
from gangplan.forecast.page import headline
from gangplan.forecast.page import write as write_page
from gangplan.forecast.panel import from_usage as panel_of
from gangplan.forecast.review import ModelVersion, approve, challenger, list_versions, reject, rollback, show_version
from gangplan.forecast.shadow import Standing, observe, standing
from gangplan.forecast.training import backtest_forecast, predict, read_training, retrain

__all__ = [
    "growth",
    "measure_lifts",
    "nowcast",
    "panel_of",
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
]
