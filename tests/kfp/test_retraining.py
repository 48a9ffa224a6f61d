"""The pipeline retrain_and_review, whole, on a real MLflow: a person's word, silence, and steps that run again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.kfp.world import SETTINGS, World, a_person, outputs, write_demand

from gangplan import forecast, workflows
from gangplan.errors import GateError, InputError, UnavailableError, WaitTimeoutError
from gangplan.testing import NOW
from gangplan.tracking import MODEL, TELEMETRY
from gangplan_kfp import retrain_and_review, support
from gangplan_kfp.support import Patience, reviewing
from gangplan_kfp.support.steps import run_key

Capture = pytest.CaptureFixture[str]


def reviewed(world: World, on_timeout: str = "fail", timeout_seconds: int = 0) -> Any:
    """What the gate about version 2 decides."""
    patience = Patience(timeout_seconds=timeout_seconds, on_timeout=on_timeout, poll_seconds=1)
    return support.review_model(SETTINGS, patience, run_id="run-1", version="2", pages="", **world.stores)[0]


def promoted(world: World, version: str, by: str = "ada") -> tuple[bool, str]:
    """Whether a promotion did something, and the champion afterwards."""
    return support.promote(SETTINGS, version=version, by=by, why="better", **world.stores)


def answer(world: World, version: str, word: str) -> None:
    """Answer as a person does on MLflow's page, by tags."""
    for tag, value in (("by", "ada"), ("why", "fits the weekend"), ("answer", word)):
        world.store.client.set_model_version_tag(MODEL, version, f"gangplan.{tag}", value)


def is_asked(world: World, version: str) -> bool:
    """Tell whether somebody was asked about a version."""
    found = {one.version for one in forecast.list_versions(world.store)}
    return version in found and "asked" in world.store.client.get_model_version(MODEL, version).tags


def test_telemetry_in_and_a_new_champion_out(world: World, runs: Path, capfd: Capture) -> None:
    """Ingest, train, evaluate, wait for a person's yes, promote: in that person's name, with the pages to read."""
    source = write_demand(world.home / "new.csv", swing=3.0)
    with a_person(lambda: is_asked(world, "3"), lambda: answer(world, "3", "approve")):
        retrain_and_review(source=str(source), poll_seconds=1, on_timeout="fail", **world.given)
    found = outputs(runs)
    assert {step: out["parameterValues"] for step, out in found.items() if "promote" in step or "gate" in step} == {
        "review-gate": {"decision": "approved", "approved": True, "by": "ada (MLflow)", "why": "fits the weekend"},
        "promote-model": {"promoted": True, "champion": "3"},
    }
    assert found["evaluate-challenger"]["parameterValues"]["decision"] == "open"
    change = forecast.history(world.store)[-1]
    assert (change.version, change.action, change.by) == ("3", "approved", "ada (MLflow)")
    assert world.champion == "3"

    (model,) = found["train-demand-model"]["artifacts"]["model"]["artifacts"]
    assert model["uri"] == f"models:/{MODEL}/3"
    assert model["metadata"]["version"] == "3"
    page = Path(found["evaluate-challenger"]["artifacts"]["report"]["artifacts"][0]["uri"]).read_text()
    assert "<title>Demand model, version 3</title>" in page
    assert "data:image/png;base64," in page
    waiting = next(line for line in capfd.readouterr().out.splitlines() if "waiting until" in line)
    assert "may version 3 steer? whoever may write to MLflow's registry answers" in waiting
    assert "`gangplan review approve 3 --by NAME --why REASON`" in waiting
    assert "nobody has answered yet" in waiting


def test_steps_that_run_again_do_nothing_twice(world: World) -> None:
    """The same import, training and promotion, each once; a rollback stays, however often the step runs again."""
    source = str(write_demand(world.home / "new.csv", swing=3.0))
    how: dict[str, Any] = {"source": source, "until": "", "replay": False, "draft_fleet": False}
    brought = [support.ingest(SETTINGS, **how, **world.stores) for _ in range(2)]
    assert [one.reused for one in brought] == [False, True]
    assert brought[0].run_id == brought[1].run_id
    assert len(world.store.runs(TELEMETRY, limit=9)) == 3

    how = {"run_id": "run-1", "name": "model", "because": "", "promotion": "person"}
    assert [support.train(SETTINGS, **how, **world.stores).version for _ in range(2)] == ["3", "3"]
    assert [one.version for one in forecast.list_versions(world.store)] == ["3", "2", "1"]

    assert [promoted(world, "3"), promoted(world, "3")] == [(True, "3"), (False, "3")]
    forecast.rollback(world.store, by="bob", why="drift", clock=world.settings.clock)
    assert promoted(world, "3") == (False, "1")
    assert [one.action for one in forecast.history(world.store) if one.version == "3"] == ["waiting", "approved"]


@pytest.mark.parametrize(("on_timeout", "decision"), [("keep", "open"), ("reject", "rejected")])
def test_silence_is_what_the_author_says(world: World, on_timeout: str, decision: str) -> None:
    """Kept open, another step may be answered later; rejected, the registry knows why; run again, it is the same."""
    for _ in range(2):
        said = reviewed(world, on_timeout)
        assert (said.decision, said.approved) == (decision, False)
        assert "nobody answered in 0 min" in said.why
    found = forecast.show_version(world.store, "2")
    assert (found.rejected is None) == (on_timeout == "keep")
    assert len([change for change in found.changes if change.action == "rejected"]) == (on_timeout == "reject")
    assert world.champion == "1"


def test_silence_can_fail_the_step_in_one_line(world: World) -> None:
    """The line says what was asked, of whom, where, and that a word which is neither yes nor no is none."""
    answer(world, "2", "perhaps")
    with pytest.raises(WaitTimeoutError) as failed:
        reviewed(world)
    assert str(failed.value).startswith("timeout_seconds: may version 2 steer? whoever may write")
    assert str(failed.value).endswith("the tag gangplan.answer is 'perhaps': write approve or reject")


@pytest.mark.parametrize(("field", "wrong"), [("on_timeout", "wait"), ("timeout_seconds", -1), ("poll_seconds", 0)])
def test_a_wrong_patience_is_named(field: str, wrong: object) -> None:
    """Refused under the parameter's name, before anything is asked."""
    given: dict[str, Any] = {"timeout_seconds": 1, "on_timeout": "keep", "poll_seconds": 1, field: wrong}
    with pytest.raises(InputError) as refused:
        Patience(**given)
    assert refused.value.field == field


def test_a_no_on_mlflows_page_is_carried_out(world: World, tmp_path: Path) -> None:
    """The rejection stands in the registry in that person's name, and nothing promotes the version any more."""
    answer(world, "2", "reject")
    said = reviewed(world)
    assert (said.decision, said.by, said.why) == ("rejected", "ada (MLflow)", "fits the weekend")
    assert forecast.show_version(world.store, "2").rejected == "fits the weekend"
    shown = support.evaluate(SETTINGS, version="2", pages="", page=str(tmp_path / "page.html"), **world.stores)
    assert shown.decided == said
    with pytest.raises(GateError, match="was rejected"):
        promoted(world, "2", by="eve")
    assert world.champion == "1"


def test_a_missing_source_and_a_wrong_run_are_named(world: World) -> None:
    """Under the parameter's name, with what helps."""
    how: dict[str, Any] = {"source": "", "until": "", "replay": False, "draft_fleet": False}
    with pytest.raises(InputError, match="set GANGPLAN_TELEMETRY") as refused:
        support.ingest(SETTINGS, **how, **world.stores)
    assert refused.value.field == "source"
    for wrong in ("", "{{$.pipeline_job_uuid}}", "a/b"):
        with pytest.raises(InputError, match="PIPELINE_JOB_ID_PLACEHOLDER"):
            run_key(wrong, "plan")
    keys = {run_key("run-1", "plan"), run_key("run-1", "plan", {"seed": 7.0}), run_key("run-1", "other")}
    assert len(keys) == 3


def test_links_lead_to_the_page_that_the_author_names(world: World, tmp_path: Path) -> None:
    """The question links to gangplan's page where there is one, and else names the version as MLflow does."""
    for pages, link in (("https://airflow/gangplan/", "https://airflow/gangplan/models/2"), ("", f"models:/{MODEL}/2")):
        shown = support.evaluate({}, version="2", pages=pages, page=str(tmp_path / "page.html"), **world.stores)
        assert f"[The report, with pictures]({link})" in shown.question


@pytest.mark.present("the end of a step's patience is a moment of the machine's clock")
def test_a_gate_that_runs_again_has_the_time_that_was_left(world: World) -> None:
    """Killed while it waits, and run again, it does not begin to wait anew; the yes of a command is heard as well."""
    first = workflows.model_asked(world.settings, "2", run_key("run-1", "review"))

    def approve() -> None:
        forecast.approve(world.store, "2", by="ada", why="fine", clock=world.settings.clock)

    yes = threading.Timer(0.5, approve)
    yes.start()
    decided = reviewed(world, timeout_seconds=3600)
    yes.join()
    assert (decided.decision, decided.by) == ("approved", "ada")
    assert workflows.model_asked(world.settings, "2", run_key("run-1", "review")) == first


def test_a_store_that_is_away_for_a_while_is_a_reason_to_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """The gate says so and looks again, and hears the answer that came meanwhile."""
    answers = iter(
        [
            workflows.Open(why="nobody"),
            UnavailableError("mlflow: down"),
            workflows.Answer(approved=True, by="ada", why="fine"),
        ]
    )

    def look() -> Any:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    patience = Patience(timeout_seconds=60, on_timeout="fail", poll_seconds=1)
    decided = reviewing.decide(
        look, since=lambda: NOW, patience=patience, clock=lambda: NOW, words="may it?", refuse=lambda _: None
    )
    assert decided.approved
    assert "may it?: mlflow: down" in capsys.readouterr().out
