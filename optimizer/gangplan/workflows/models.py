"""Demand models between training and use: what is due in the registry, and what people decide about a version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gangplan import forecast, telemetry
from gangplan.config import Settings
from gangplan.forecast import Change, ModelVersion
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


def question(settings: Settings, version: str | None = None, *, models: str) -> dict[str, str]:
    """Return the question to a person about a version (default: the challenger).

    `models` is the address under which each version has its page, with the report that its training kept in MLflow.
    """
    store = open_store(settings)
    number = version or forecast.challenger(store)
    shown = forecast.show_version(store, number)
    body = [
        f"**{forecast.headline(store, number)}**",
        f"- The gate: {shown.gate}. {shown.reason}",
        f"- Trained because: {shown.because}. Compared with: version {shown.compared_with or 'none'}.",
        f"- [The report, with pictures]({models}/{number}); it is `review.html` of the MLflow run `{shown.run_id}`.",
    ]
    return {"version": number, "subject": f"Demand model: may version {number} steer?", "body": "\n".join(body)}


def answered(settings: Settings, version: str, answer: Mapping[str, Any]) -> ModelVersion:
    """Approve or reject a version by an answer of Airflow's ApprovalOperator, in the name of the person who gave it."""
    user: Mapping[str, Any] = answer.get("responded_by_user") or {}
    given: Mapping[str, Any] = answer.get("params_input") or {}
    who = str(user.get("name") or user.get("id") or "somebody in Airflow")
    why = str(given.get("why") or "").strip() or "no reason was given"
    decide = forecast.approve if answer["chosen_options"] == ["Approve"] else forecast.reject
    return decide(open_store(settings), version, by=f"{who} (Airflow)", why=why, clock=settings.clock)
