"""Demand models between training and use: what is due in the registry."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gangplan import forecast, telemetry
from gangplan.config import Settings
from gangplan.forecast import Change
from gangplan.tracking import open_store

DRIFT_DAYS = 14
AGAIN = timedelta(days=1)
"""For so long after a training that a drift caused, no other drift asks for a training."""


def drift(settings: Settings, *, days: int = DRIFT_DAYS) -> tuple[forecast.Health, str]:
    """Judge the champions of the last days, and return the reason for a training; empty if none is needed.

    None is needed when the inputs changed, since a person must look first, or when a drift caused one within a day.
    """
    store = open_store(settings)
    health = forecast.watch_drift(telemetry.read_usage(store, settings.clock()), store, settings=settings, days=days)
    newest = forecast.list_versions(store)[0]
    trained = newest.because.startswith("drift") and settings.clock() - newest.made_at < AGAIN
    wanted = health.verdict is forecast.DriftVerdict.RETRAIN and not trained
    return health, health.reason if wanted else ""


def watch(settings: Settings) -> Change | None:
    """Record changes made by hand, let the challenger forecast in the shadow, and decide when its days are over."""
    store = open_store(settings)
    return forecast.decide_challenger(
        store, telemetry.read_usage(store, settings.clock()), settings=settings, clock=settings.clock
    )


def questions(settings: Settings) -> tuple[str, ...]:
    """Return the version that a person must decide about, if there is one and nobody was asked yet."""
    return forecast.open_questions(open_store(settings))


def write_page(settings: Settings, version: str, out: Path | None = None) -> Path:
    """Write the page about a version, by default to the folder `review` of the home folder; return its path."""
    file = out or settings.home / "review" / f"version-{version}.html"
    return forecast.write_page(file, open_store(settings), version)
