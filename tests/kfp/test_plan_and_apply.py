"""The pipeline plan_and_apply with the real solver, ledger and MLflow: approved once, or not applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kfp.world import SETTINGS, World, a_person, outputs

from gangplan import plan
from gangplan.reserve import open_ledger
from gangplan_kfp import plan_and_apply, support
from gangplan_kfp.support import Patience

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


def test_a_plan_that_a_person_rejects_is_not_applied(world: World, runs: Path) -> None:
    """It is not published either; who said no, and why, is kept; the plan is drawn on a page of its own."""
    with a_person(lambda: newest(world).get("asked") == "yes", lambda: answer(world, "reject")):
        plan_and_apply(poll_seconds=1, on_timeout="fail", **{**world.given, "settings": ASKING})
    found, tags = outputs(runs), newest(world)
    assert set(found) == {"plan-capacity", "approve-plan"}
    decided = found["approve-plan"]["parameterValues"]
    assert decided == {"decision": "rejected", "approved": False, "by": "ada (MLflow)", "why": "within budget"}
    assert (tags["published"], tags["approved"], tags["rejected"]) == ("", "no", "yes")
    page = Path(found["plan-capacity"]["artifacts"]["page"]["artifacts"][0]["uri"]).read_text()
    assert f"<title>gangplan: {tags['plan_id']}</title>" in page
    assert "<svg" in page
    assert "<script" not in page


def made(world: World, run: str, settings: dict[str, Any], tmp_path: Path) -> str:
    """The plan that the step makes or finds."""
    page = str(tmp_path / "page.html")
    given = {**world.stores, "ledger": "", "fleet": ""}
    return support.make_plan(settings, run_id=run, name="plan", page=page, **given).plan_id


def test_steps_that_run_again_plan_and_publish_once(world: World, tmp_path: Path) -> None:
    """A plan step finds the plan that it made; an approval publishes once; another run plans anew."""
    patience = Patience(timeout_seconds=0, on_timeout="fail", poll_seconds=1)

    def approved(run: str) -> str:
        given = {**world.stores, "ledger": ""}
        return support.review_plan(ASKING, patience, run_id=run, plan_id="", pages="", **given)[0].decision

    assert made(world, "run-1", ASKING, tmp_path) == made(world, "run-1", ASKING, tmp_path)
    assert len(plan.list_plans(world.store)) == 1
    before = publications(world)
    answer(world, "approve")
    assert [approved("run-1"), approved("run-1")] == ["approved", "approved"]
    assert "by ada (MLflow): within budget" in newest(world)["approved.note"]
    assert publications(world) == before + 1
    assert made(world, "run-2", SETTINGS, tmp_path) == made(world, "run-2", SETTINGS, tmp_path)
    assert publications(world) == before + 2


def test_feedback_counts_no_hour_twice(world: World, tmp_path: Path) -> None:
    """The score is kept once however often the step runs, and its report is one page with pictures."""
    made(world, "run-1", SETTINGS, tmp_path)
    given = {**world.stores, "ledger": "", "fleet": ""}
    found = [support.learn(SETTINGS, page=str(tmp_path / "report.html"), **given) for _ in range(2)]
    assert found[0].beliefs.run_id == found[1].beliefs.run_id
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert support.of_learning(found[0]).startswith("# Planned against happened")
    assert all(isinstance(value, float) for value in support.learning_figures(found[0]).values())
    assert not world.settings.report_file.exists()
