"""A question to a person that stays open: since when, what was answered, and in which of the ways that there are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gangplan import forecast, plan
from gangplan.config import Settings
from gangplan.errors import GateError
from gangplan.forecast.registry import Action, Alias, record_decision
from gangplan.reserve import open_ledger
from gangplan.testing import NOW, a_forecast, a_plan, a_pool
from gangplan.tracking import MODEL, Store
from gangplan.types import Plan
from gangplan.workflows import (
    Answer,
    Open,
    approve,
    decide_model,
    decide_plan,
    model_answer,
    model_asked,
    plan_answer,
    plan_asked,
    reject,
)

POOLS = (a_pool("h100-a", max_nodes=4),)


@pytest.fixture
def settings(tmp_path: Path, mlflow_store: Store) -> Settings:
    """A home in which a person decides on models and plans."""
    return Settings(home=tmp_path, now=NOW, promotion="person", publication="person")


@pytest.fixture
def waiting(mlflow_store: Store) -> Store:
    """A registry with champion 1 and challenger 2, which passed the gate and waits."""
    mlflow_store.client.create_registered_model(MODEL)
    for version, action in (("1", Action.PROMOTED), ("2", Action.WAITING)):
        mlflow_store.client.create_model_version(MODEL, "nowhere", tags={"gate": "passed"})
        record_decision(mlflow_store, action, version, by="gate", why="fine", at=NOW)
    mlflow_store.client.set_registered_model_alias(MODEL, Alias.CHALLENGER, "2")
    return mlflow_store


@pytest.fixture
def planned(mlflow_store: Store) -> Plan:
    """A plan that waits."""
    ahead = a_forecast({("vision", "throughput", "h100"): [4.0] * 24}, NOW)
    return plan.log_plan(a_plan(NOW, {"h100-a": [3] * 24}, POOLS), ahead, mlflow_store)


def tag(store: Store, word: str, version: str = "2", **more: str) -> None:
    """Answer on MLflow's page."""
    for name, value in {**more, "answer": word}.items():
        store.client.set_model_version_tag(MODEL, version, f"gangplan.{name}", value)


Act = Callable[[Store, Settings], object]


def by_command(store: Store, settings: Settings) -> None:
    """As `gangplan review approve` does."""
    forecast.approve(store, "2", by="ada", why="fits", clock=settings.clock)


def by_alias(store: Store, settings: Settings) -> None:
    """Move the alias by hand, with the tags that say who and why."""
    for name, value in (("by", "ada"), ("why", "fits")):
        store.client.set_model_version_tag(MODEL, "2", f"gangplan.{name}", value)
    store.client.set_registered_model_alias(MODEL, Alias.CHAMPION, "2")


def by_rejection(store: Store, settings: Settings) -> None:
    """As `gangplan review reject` does."""
    forecast.reject(store, "2", by="ada", why="fits", clock=settings.clock)


@pytest.mark.parametrize(
    ("act", "approved", "by"),
    [
        (by_command, True, "ada"),
        (by_alias, True, "ada"),
        (by_rejection, False, "ada"),
        (lambda store, _: tag(store, " Approve ", by="ada", why="fits"), True, "ada (MLflow)"),
        (lambda store, _: tag(store, "no", by="ada", why="fits"), False, "ada (MLflow)"),
    ],
)
def test_each_way_to_answer_is_heard(waiting: Store, settings: Settings, act: Act, approved: bool, by: str) -> None:
    """The word of a command, of the alias and of the tags, with who gave it and why."""
    assert model_answer(settings, "2") == Open(why="nobody has answered yet")
    act(waiting, settings)
    assert model_answer(settings, "2") == Answer(approved=approved, by=by, why="fits")


def test_a_word_that_is_neither_is_said_to_be_none(waiting: Store, settings: Settings) -> None:
    """A slip of the pen decides nothing; the reason names the tag and the words that it takes."""
    tag(waiting, "aprove")
    found = model_answer(settings, "2")
    assert found == Open(why="the tag gangplan.answer is 'aprove': write approve or reject")
    tag(waiting, "approve")
    assert model_answer(settings, "2") == Answer(approved=True, by="somebody (MLflow)", why="no reason was given")


def test_a_yes_waits_for_the_days_beside_the_champion(waiting: Store, settings: Settings) -> None:
    """Nobody is promoted past a shadow that comes first; a no needs no days."""
    waiting.client.set_model_version_tag(MODEL, "2", "shadow_days", "3.0")
    days = "0.0 of 3 days beside the champion are over"
    assert model_answer(settings, "2") == Open(why=days)
    tag(waiting, "approve", by="ada")
    assert model_answer(settings, "2") == Open(why=f"ada (MLflow) approved it, and {days}")
    with pytest.raises(GateError):
        decide_model(settings, "2", Answer(approved=True, by="ada", why="now"))
    tag(waiting, "reject", by="ada")
    assert isinstance(model_answer(settings, "2"), Answer)


def test_asked_again_it_is_since_the_first_time(
    waiting: Store, planned: Plan, settings: Settings, clock: Callable[[], datetime]
) -> None:
    """Who asks in the same name learns when it first did, and nobody else is asked meanwhile."""
    later = settings.model_copy(update={"now": NOW + timedelta(hours=1)})
    assert model_asked(settings, "2", "run-1") == model_asked(later, "2", "run-1") == NOW
    assert model_asked(later, "2", "run-2") == NOW + timedelta(hours=1)
    assert forecast.open_questions(waiting) == ()
    assert plan_asked(settings, planned.plan_id, "run-1") == plan_asked(later, planned.plan_id, "run-1") == NOW
    assert plan.list_plans(waiting)[0]["asked"] == "yes"


def test_a_plans_answers(planned: Plan, mlflow_store: Store, settings: Settings) -> None:
    """Open, by tags, by a person's mark; where the settings ask for nobody, it is a yes of nobody."""
    number = planned.plan_id
    assert plan_answer(settings, number) == Open(why="nobody has answered yet")
    for name, value in (("by", "ada"), ("answer", "reject")):
        mlflow_store.client.set_tag(str(planned.run_id), f"gangplan.{name}", value)
    assert plan_answer(settings, number) == Answer(approved=False, by="ada (MLflow)", why="no reason was given")
    approve(planned, mlflow_store, by="bob", why="dear: but needed", clock=settings.clock)
    assert plan_answer(settings, number) == Answer(approved=True, by="bob", why="dear: but needed")
    reject(planned, mlflow_store, by="eve", why="no", clock=settings.clock)
    assert plan_answer(settings, number) == Answer(approved=False, by="eve", why="no")
    reject(planned, mlflow_store, by="eve", why="no", clock=settings.clock)
    mlflow_store.client.set_tag(str(planned.run_id), "rejected", "no")
    anybody = settings.model_copy(update={"publication": "plan"})
    assert plan_answer(anybody, number) == Answer(
        approved=True, by="nobody", why="no approval is asked for: see publication and approve_above"
    )


def test_a_yes_publishes_the_plan(planned: Plan, mlflow_store: Store, settings: Settings) -> None:
    """The calendar is the plan's, and the plan is marked, in the name of who answered."""
    with open_ledger(f"sqlite:///{settings.home / 'ledger.db'}", clock=settings.clock) as ledger:
        said = decide_plan(settings, ledger, planned.plan_id, Answer(approved=True, by="ada", why="fits"))
        assert ledger.published() == planned.plan_id
    assert said.endswith("approved by ada and published: fits")
    assert plan.is_published(mlflow_store, planned)
