"""Forecast: from telemetry to quantiles of GPU demand, by models that are back-tested, gated and reviewed in MLflow."""

from gangplan.forecast.audit import Change, history, sync
from gangplan.forecast.due import open_questions, settle
from gangplan.forecast.page import headline
from gangplan.forecast.page import write as write_page
from gangplan.forecast.review import ModelVersion, approve, challenger, list_versions, reject, rollback, show_version
from gangplan.forecast.shadow import Standing, observe, standing
from gangplan.forecast.training import backtest_forecast, predict, read_training, retrain

__all__ = [
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
