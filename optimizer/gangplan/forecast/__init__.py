"""Forecast: from telemetry to quantiles of GPU demand, by models that are back-tested, gated and reviewed in MLflow."""

from gangplan.forecast.review import ModelVersion, approve, list_versions, reject, rollback, show_version
from gangplan.forecast.training import backtest_forecast, predict, read_training, retrain

__all__ = [
    "retrain",
    "predict",
    "backtest_forecast",
    "read_training",
    "list_versions",
    "show_version",
    "approve",
    "reject",
    "rollback",
    "ModelVersion",
]
