"""A challenger between the stages: what is due in the registry after each import, and a person's word on a model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gangplan import forecast, telemetry
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings
from gangplan.forecast import Change, ModelVersion
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.types import Training

DRIFT_DAYS = 14
AGAIN = timedelta(days=1)
"""How long a training that a drift set off keeps the drift from asking again."""


def train(
    settings: Settings, *, because: str, clock: Clock = system_clock, progress: Progress = no_progress
) -> Training:
    """Train as `cycle.train` does, and keep with the version what set it off: a schedule, or a drift and its cause."""
    store = open_store(settings)
    usage = telemetry.read_usage(store)
    return forecast.retrain(usage, store, settings=settings, because=because, clock=clock, progress=progress)


def drift(settings: Settings, *, days: int = DRIFT_DAYS, clock: Clock = system_clock) -> tuple[forecast.Health, str]:
    """Judge the last days of the champions, and give the cause for which a training is asked; empty where none is.

    None is where the inputs changed, for a person has to look first; or where a drift set one off within a day.
    """
    store = open_store(settings)
    found = forecast.watch_drift(telemetry.read_usage(store), store, settings=settings, days=days)
    newest = forecast.list_versions(store)[0]
    answered = newest.because.startswith("drift") and clock() - newest.made_at < AGAIN
    asks = found.verdict is forecast.DriftVerdict.RETRAIN and not answered
    return found, found.reason if asks else ""


def watch(settings: Settings, *, clock: Clock = system_clock) -> Change | None:
    """Record what was done by hand, let the challenger forecast beside the champion, decide when its days are over."""
    store = open_store(settings)
    return forecast.decide_challenger(store, telemetry.read_usage(store), settings=settings, clock=clock)


def questions(settings: Settings) -> tuple[str, ...]:
    """Return the version that a person has to decide on, if there is one about which none was asked yet."""
    return forecast.open_questions(open_store(settings))


def write_page(settings: Settings, version: str, out: Path | None = None) -> Path:
    """Write the page about a version, to the home's `review` folder where no file is named; return its path."""
    file = out or settings.home / "review" / f"version-{version}.html"
    return forecast.write_page(file, open_store(settings), version)


def decide(
    settings: Settings, version: str, *, approved: bool, by: str, why: str, clock: Clock = system_clock
) -> ModelVersion:
    """Carry out what a person said about a version."""
    act = forecast.approve if approved else forecast.reject
    return act(open_store(settings), version, by=by, why=why, clock=clock)


def question(settings: Settings, version: str | None = None) -> dict[str, str]:
    """Write the page about a version, the challenger where none is named; return it with what a person is asked.

    Raises
    ------
    NotFoundError
        When there is no challenger, or no such version.
    """
    store = open_store(settings)
    named = version or forecast.challenger(store)
    found = forecast.show_version(store, named)
    page = write_page(settings, named)
    body = [
        f"**{forecast.headline(store, named)}**",
        f"- The gate: {found.gate}. {found.reason}",
        f"- Trained because: {found.because}. Compared with: version {found.compared_with or 'none'}.",
        f"- The page with pictures: `{page}`, or `review.html` of the MLflow run `{found.run_id}`.",
    ]
    return {"version": named, "subject": f"Demand model: may version {named} steer?", "body": "\n".join(body)}


def answered(settings: Settings, version: str, answer: Mapping[str, Any]) -> ModelVersion:
    """Carry out an answer as Airflow's ApprovalOperator gives it, in the name of who gave it."""
    user: Mapping[str, Any] = answer.get("responded_by_user") or {}
    given: Mapping[str, Any] = answer.get("params_input") or {}
    who = str(user.get("name") or user.get("id") or "somebody in Airflow")
    why = str(given.get("why") or "").strip() or "no reason was given"
    approved = answer["chosen_options"] == ["Approve"]
    return decide(settings, version, approved=approved, by=f"{who} (Airflow)", why=why)
