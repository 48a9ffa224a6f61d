"""The first days: what a stage needs that earlier stages have not brought yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from gangplan import forecast, telemetry
from gangplan.clock import HOUR
from gangplan.config import Settings
from gangplan.tracking import PLAN, Store, open_store
from gangplan.urls import sqlite_file


class Need(StrEnum):
    """What a stage of the cycle works on."""

    TELEMETRY = "telemetry"
    HISTORY = "history"
    """Enough telemetry to train on."""
    MODEL = "model"
    """A demand model that steers: the champion."""
    FLEET = "fleet"
    PLAN = "plan"
    """A published plan."""


def not_yet(settings: Settings, *needs: Need) -> str:
    """Say which of a stage's needs is not there yet, and what brings it; empty when the stage can run.

    Once a plan was published the first days are over. A need that is missing then was lost: the stage runs, and fails
    with its own error.
    """
    store = _store(settings)
    missing = next((words for need in needs if (words := _LOOK[need](settings, store))), "")
    return missing if missing and _plan(settings, store) else ""


def has_hours(settings: Settings, *, until: datetime) -> bool:
    """Tell whether the newest import has the hours up to a moment, so that it need not be brought in again."""
    store = _store(settings)
    span = None if store is None else telemetry.kept_span(store)
    return span is not None and span[1] >= until


def _store(settings: Settings) -> Store | None:
    """Return the MLflow store; none while there is not even its file."""
    file = sqlite_file(settings.mlflow_uri)
    return None if file is not None and not file.exists() else open_store(settings)


def _telemetry(_: Settings, store: Store | None) -> str:
    if store is not None and telemetry.kept_span(store) is not None:
        return ""
    return "there is no telemetry yet: the import brings it (gangplan_ingest, `gangplan ingest`)"


def _history(settings: Settings, store: Store | None) -> str:
    span = None if store is None else telemetry.kept_span(store)
    if span is None:
        return _telemetry(settings, store)
    hours = int((span[1] - span[0]) / HOUR)
    least = forecast.LEAST_HOURS
    return "" if hours >= least else f"there are {hours} hours of telemetry yet, and a training needs {least}"


def _model(settings: Settings, store: Store | None) -> str:
    versions = () if store is None else forecast.list_versions(store)
    if any("champion" in version.aliases for version in versions):
        return ""
    if versions:
        return f"no demand model steers yet: version {versions[0].version} waits to be decided (`gangplan review list`)"
    return "there is no demand model yet: the training makes it (gangplan_retrain, `gangplan train`)"


def _fleet(settings: Settings, _: Store | None) -> str:
    if settings.fleet_file.exists():
        return ""
    return f"there is no fleet file {settings.fleet_file} yet: run gangplan_ingest with draft_fleet, or `gangplan init`"


def _plan(_: Settings, store: Store | None) -> str:
    if store is not None and store.runs(PLAN, {"published": "yes"}):
        return ""
    return "no plan was published yet: the planning does it, or a person (gangplan_plan, `gangplan plan publish`)"


_LOOK: dict[Need, Callable[[Settings, Store | None], str]] = {
    Need.TELEMETRY: _telemetry,
    Need.HISTORY: _history,
    Need.MODEL: _model,
    Need.FLEET: _fleet,
    Need.PLAN: _plan,
}
