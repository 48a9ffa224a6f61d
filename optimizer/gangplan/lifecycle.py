"""A challenger between the stages: what is due in the registry after each import, and a person's word on a model."""

from __future__ import annotations

from pathlib import Path

from gangplan import forecast, telemetry
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings
from gangplan.forecast import Change, ModelVersion
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.types import Training


def train(
    settings: Settings, *, because: str, clock: Clock = system_clock, progress: Progress = no_progress
) -> Training:
    """Train as `cycle.train` does, and keep with the version what set it off: a schedule, or a drift and its cause."""
    store = open_store(settings)
    usage = telemetry.read_usage(store)
    return forecast.retrain(usage, store, settings=settings, because=because, clock=clock, progress=progress)


def watch(settings: Settings, *, clock: Clock = system_clock) -> Change | None:
    """Record what was done by hand, let the challenger forecast beside the champion, decide when its days are over."""
    store = open_store(settings)
    return forecast.settle(store, telemetry.read_usage(store), settings=settings, clock=clock)


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
