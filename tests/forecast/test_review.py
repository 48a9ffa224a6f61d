"""A person's word on a model: every change of alias is kept with who, when and why, and senseless ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import pytest

from gangplan import forecast
from gangplan.errors import GateError, InputError, NotFoundError, Refusal
from gangplan.forecast.promotion import APART, TWIN, decide_after_training
from gangplan.forecast.registry import audit_log, model_versions
from gangplan.tracking import FORECAST, MODEL, Store

from .conftest import Trained


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry with champion 1, challenger 2 that passed the gate, and 3 that did not."""

    store: Store
    clock: Callable[[], datetime]


@pytest.fixture
def reviewed(trained_copy: Trained, ticking: Callable[[], datetime]) -> Registry:
    """Two more versions of the model that was trained, without training again."""
    store, client = trained_copy.store, trained_copy.store.client
    first = client.get_model_version(MODEL, "1")
    uri = f"models:/{client.get_run(str(first.run_id)).outputs.model_outputs[0].model_id}"
    kept = {name: first.tags[name] for name in ("wql", "naive_wql", "coverage_80", "notes")}
    for gate, reason in (("refused", "WQL too high"), ("passed", "better")):
        run_id = client.create_run(store.experiment(FORECAST)).info.run_id
        version = model_versions.register(store, run_id, uri, {**kept, "gate": gate, "reason": reason})
        client.set_registered_model_alias(MODEL, "challenger", version)
    return Registry(store=store, clock=ticking)


GOOD, BAD = "3", "2"


def test_list_shows_versions_newest_first(reviewed: Registry) -> None:
    """The list has every version with its aliases, figures and verdict."""
    found = forecast.list_versions(reviewed.store)
    assert [(one.version, one.aliases, one.gate) for one in found] == [
        ("3", ("challenger",), "passed"),
        ("2", (), "refused"),
        ("1", ("champion",), "passed"),
    ]
    assert all(0 < one.wql < one.naive_wql for one in found)


def test_approve_crowns_and_keeps_who_when_why(reviewed: Registry) -> None:
    """The approved version is champion, no longer challenger, and its change is kept."""
    found = forecast.approve(reviewed.store, GOOD, by="ada", why="better on weekends", clock=reviewed.clock)
    assert found.aliases == ("champion",)
    change = found.changes[-1]
    assert (change.by, change.action, change.why, change.champion_before) == (
        "ada",
        "approved",
        "better on weekends",
        "1",
    )
    assert change.at.utcoffset() is not None
    tags = reviewed.store.client.get_model_version(MODEL, GOOD).tags
    assert (tags["promoted_by"], tags["promoted_why"]) == ("ada", "better on weekends")


def test_what_the_gate_refused_needs_force(reviewed: Registry) -> None:
    """Approving it is refused with the gate's reason; with force it is done, and said to be by force."""
    with pytest.raises(GateError, match="WQL too high"):
        forecast.approve(reviewed.store, BAD, by="ada", why="I know", clock=reviewed.clock)
    assert model_versions.alias(reviewed.store, "champion") == "1"
    found = forecast.approve(reviewed.store, BAD, by="ada", why="I know", clock=reviewed.clock, force=True)
    assert found.aliases == ("champion",)
    assert found.changes[-1].action == "approved by force"


def test_reject_takes_the_challenger_away_with_a_reason(reviewed: Registry) -> None:
    """A rejected version has no alias, says why, and needs force to come back."""
    found = forecast.reject(reviewed.store, GOOD, by="bob", why="worse on weekends", clock=reviewed.clock)
    assert (found.aliases, found.rejected) == ((), "worse on weekends")
    assert model_versions.alias(reviewed.store, "challenger") is None
    with pytest.raises(GateError, match="worse on weekends"):
        forecast.approve(reviewed.store, GOOD, by="ada", why="no", clock=reviewed.clock)


def test_rollback_goes_back_the_way_it_came(reviewed: Registry) -> None:
    """Each rollback gives the place to the champion before; the first has none before it."""
    store, clock = reviewed.store, reviewed.clock
    with pytest.raises(NotFoundError, match="first champion"):
        forecast.rollback(store, by="ada", why="drift", clock=clock)
    forecast.approve(store, GOOD, by="ada", why="better", clock=clock)
    assert forecast.rollback(store, by="bob", why="drift", clock=clock).version == "1"
    assert model_versions.alias(store, "champion") == "1"
    assert [(one.action, one.version, one.by) for one in audit_log.history(store)] == [
        ("promoted", "1", "gate"),
        ("approved", GOOD, "ada"),
        ("rolled back to", "1", "bob"),
    ]
    assert forecast.rollback(store, GOOD, by="bob", why="after all", clock=clock).aliases == ("champion",)


def test_second_rollback_does_not_swing_back(reviewed: Registry) -> None:
    """After 1, 3, 2 two rollbacks lead to 3 and then to 1, and not back to 2."""
    store, clock = reviewed.store, reviewed.clock
    forecast.approve(store, GOOD, by="ada", why="better", clock=clock)
    forecast.approve(store, BAD, by="ada", why="try", clock=clock, force=True)
    assert forecast.rollback(store, by="bob", why="worse", clock=clock).version == GOOD
    assert forecast.rollback(store, by="bob", why="worse still", clock=clock).version == "1"
    with pytest.raises(NotFoundError, match="first champion"):
        forecast.rollback(store, by="bob", why="again", clock=clock)


def test_senseless_decisions_are_refused(reviewed: Registry) -> None:
    """Unknown versions, the champion approved or rejected again, and decisions without a name or reason."""
    store, clock = reviewed.store, reviewed.clock
    for act in (forecast.approve, forecast.reject, forecast.rollback):
        with pytest.raises(NotFoundError, match=r"'9' is not in the registry: versions are 3, 2, 1"):
            act(store, "9", by="ada", why="x", clock=clock)
        with pytest.raises(InputError, match="by"):
            act(store, GOOD, by=" ", why="x", clock=clock)
        with pytest.raises(InputError, match="why"):
            act(store, GOOD, by="ada", why="", clock=clock)
        with pytest.raises(Refusal, match="version 1 is the champion"):
            act(store, "1", by="ada", why="x", clock=clock)
    assert len(audit_log.history(store)) == 1


def test_alias_moved_by_hand_is_honoured(reviewed: Registry, trained: Trained) -> None:
    """A champion set in MLflow's own page is the one that forecasts."""
    reviewed.store.client.set_registered_model_alias(MODEL, "champion", GOOD)
    made = forecast.predict(trained.usage, reviewed.store, None, settings=trained.settings)
    assert made.model == f"{MODEL}/{GOOD}"
    assert replace(forecast.show_version(reviewed.store, GOOD)).aliases == ("champion", "challenger")


def test_alias_deleted_by_hand_is_said(reviewed: Registry, trained: Trained) -> None:
    """There are versions, so that none has to be trained: the words name what gives the place back."""
    reviewed.store.client.delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(NotFoundError, match="3 versions, none of them the champion: name one with `gangplan review"):
        forecast.predict(trained.usage, reviewed.store, None, settings=trained.settings)
    forecast.approve(reviewed.store, GOOD, by="ada", why="it was", clock=reviewed.clock)
    made = forecast.predict(trained.usage, reviewed.store, None, settings=trained.settings)
    assert made.model == f"{MODEL}/{GOOD}"


@pytest.mark.parametrize(("twin", "waits"), [({}, True), ({TWIN: "yes", APART: "0.1%"}, False)])
def test_a_person_is_not_asked_about_a_twin(
    reviewed: Registry, trained: Trained, twin: dict[str, str], waits: bool
) -> None:
    """Where a person decides, they are asked about what passed the gate, unless it forecasts as the champion does."""
    client = reviewed.store.client
    for name, value in {"compared_with": "1", **twin}.items():
        client.set_model_version_tag(MODEL, GOOD, name, value)
    asked = trained.settings.model_copy(update={"promotion": "person"})
    decide_after_training(reviewed.store, GOOD, settings=asked, at=reviewed.clock())
    assert forecast.open_questions(reviewed.store) == ((GOOD,) if waits else ())
    assert forecast.approve(reviewed.store, GOOD, by="ada", why="newer", clock=reviewed.clock).aliases == ("champion",)
