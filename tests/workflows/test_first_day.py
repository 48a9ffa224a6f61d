"""The first days: a stage says what is not there yet, until a plan was published once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gangplan import cycle
from gangplan.config import Settings
from gangplan.testing import NOW
from gangplan.tracking import PLAN, open_store
from gangplan.workflows import Need, has_hours, initialise, not_yet


@pytest.fixture
def settings(tmp_path: Path, mlflow_template: Path) -> Settings:
    """The settings of a home in which nothing is."""
    return Settings(home=tmp_path / "home", now=NOW)


def imported(settings: Settings, hours: int) -> None:
    """Import that many hours of demand until now."""
    rows = [f"{(NOW - timedelta(hours=back)).isoformat()},chat,latency,h100,4" for back in range(hours, 0, -1)]
    settings.home.mkdir(exist_ok=True)
    file = settings.home / "demand.csv"
    file.write_text("\n".join(["hour,tenant,workload_class,accelerator,gpus", *rows]) + "\n")
    cycle.ingest(settings, str(file))


def test_an_empty_home_lacks_each_need_in_words(settings: Settings) -> None:
    """Every need is named with what brings it, the first that is missing first; nothing is written by asking."""
    assert not_yet(settings) == ""
    said = {need: not_yet(settings, need) for need in Need}
    assert all(said.values())
    assert "no telemetry yet" in said[Need.HISTORY]
    assert "draft_fleet" in said[Need.FLEET]
    assert not_yet(settings, Need.FLEET, Need.MODEL) == said[Need.FLEET]
    assert not settings.home.exists()


def test_needs_come_one_after_the_other(settings: Settings) -> None:
    """Telemetry, enough of it to train on, a fleet: what is there is asked for no more."""
    imported(settings, 47)
    assert not_yet(settings, Need.TELEMETRY) == ""
    assert not_yet(settings, Need.HISTORY) == "there are 47 hours of telemetry yet, and a training needs 48"
    assert has_hours(settings, until=NOW)
    assert not has_hours(settings, until=NOW + timedelta(hours=1))
    imported(settings, 48)
    assert not_yet(settings, Need.HISTORY) == ""
    initialise(settings, from_telemetry=False, force=False)
    assert not_yet(settings, Need.FLEET) == ""
    assert "no demand model yet" in not_yet(settings, Need.FLEET, Need.MODEL)


def test_after_the_first_plan_nothing_is_missing_quietly(settings: Settings) -> None:
    """A model that is gone after a plan was published was lost: the stage runs, and fails with its own error."""
    imported(settings, 48)
    assert not_yet(settings, Need.MODEL, Need.PLAN)
    with open_store(settings).run(PLAN, "a plan", {"published": "yes"}):
        pass
    assert not_yet(settings, Need.MODEL, Need.PLAN) == ""
