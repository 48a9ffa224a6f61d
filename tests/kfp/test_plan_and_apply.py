"""The pipeline plan_and_apply, whole, with the real solver, ledger and MLflow: approved once, or not applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kfp.world import SETTINGS, World, a_person, outputs

from gangplan import plan
from gangplan.config import load_settings
from gangplan.reserve import open_ledger
from gangplan_kfp import approve_plan, plan_and_apply, plan_capacity, record_feedback

ASKING = {**SETTINGS, "publication": "person"}


def newest(world: World) -> dict[str, str]:
    """The tags of the newest plan; nothing where there is none."""
    return next(iter(plan.list_plans(world.store)), {})


def publications(world: World) -> int:
    """How often a calendar was published to the ledger."""
    with open_ledger(world.settings.ledger_url, clock=world.settings.clock) as ledger:
        return sum(name == "publish" for event in ledger.audit() for name, _ in event.commands)


def answer(world: World, word: str) -> None:
    """Answer as a person does on MLflow's page, by tags of the plan's run."""
    planned, _ = plan.read_plan(world.store)
    for tag, value in (("by", "ada"), ("why", "within budget"), ("answer", word)):
        world.store.client.set_tag(str(planned.run_id), f"gangplan.{tag}", value)


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_plan_holds_and_is_applied_on_a_yes_only(world: World, runs: Path, word: str) -> None:
    """Approved, it is published in that person's name and carried out; rejected, neither happens."""
    given = {**world.given(), "settings": ASKING}
    with a_person(lambda: newest(world).get("asked") == "yes", lambda: answer(world, word)):
        plan_and_apply(poll_seconds=1, on_timeout="fail", **given)
    found, tags = outputs(runs), newest(world)
    decided = found["approve-plan"]["parameterValues"]
    assert (decided["approved"], decided["by"], decided["why"]) == (word == "approve", "ada (MLflow)", "within budget")
    assert ("apply-plan" in found) == (word == "approve")
    assert (tags["published"], tags["approved"] or "no") == (("yes", "yes") if word == "approve" else ("", "no"))
    page = Path(found["plan-capacity"]["artifacts"]["page"]["artifacts"][0]["uri"]).read_text()
    assert f"<title>gangplan: {tags['plan_id']}</title>" in page
    assert "<svg" in page
    assert "<script" not in page


def test_steps_that_run_again_plan_and_publish_once(world: World, runs: Path) -> None:
    """A plan step finds the plan that it made; an approval publishes once; another run plans anew."""

    def planned(run: str, settings: dict[str, Any]) -> str:
        return plan_capacity(run_id=run, **{**world.given(), "settings": settings}).outputs["plan_id"]

    def approved(run: str) -> dict[str, Any]:
        return approve_plan(run_id=run, timeout_seconds=0, **{**world.given(), "settings": ASKING}).outputs

    first, again = planned("run-1", ASKING), planned("run-1", ASKING)
    assert first == again
    assert len(plan.list_plans(world.store)) == 1
    before = publications(world)
    answer(world, "approve")
    assert [approved("run-1")["decision"] for _ in range(2)] == ["approved", "approved"]
    assert publications(world) == before + 1
    assert planned("run-2", SETTINGS) == planned("run-2", SETTINGS)
    assert publications(world) == before + 2
    assert approved("run-1")["decision"] == "approved"
    assert publications(world) == before + 2


def test_feedback_counts_no_hour_twice(world: World, runs: Path) -> None:
    """The score is kept once however often the step runs, and its report is one page with pictures."""
    plan_capacity(run_id="run-1", **world.given())
    found = [record_feedback(run_id="run-1", **world.given()).outputs for _ in range(2)]
    assert found[0]["mlflow_run_id"] == found[1]["mlflow_run_id"]
    report = Path(found[0]["report"].path).read_text()
    assert "<svg" in report
    assert "Planned against happened" in Path(found[0]["learned"].path).read_text()
    assert load_settings(home=world.home).report_file.exists() is False
