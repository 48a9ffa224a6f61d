"""The pages over MLflow: plans are looked at, approved, rejected and published; reports come from MLflow alone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.conftest import make_world
from tests.serve.conftest import Page, Person, open_page

from gangplan import plan, workflows
from gangplan.config import Settings
from gangplan.serve import Right
from gangplan.tracking import Store
from gangplan.types import Plan


@pytest.fixture
def planned(mlflow_store: Store) -> Plan:
    """A plan that is kept."""
    world = make_world()
    return plan.log_plan(world.plan, world.forecast, mlflow_store)


@pytest.fixture
def page(tmp_path: Path, people: dict[str, Person], mlflow_store: Store, planned: Plan) -> Generator[Page]:
    """The page over that plan, where a person's approval is asked for; `boss` may approve but not publish."""
    people["boss"] = Person(name="boss (tests)", rights=frozenset({Right.REVIEW_PLAN}))
    settings = Settings(home=tmp_path / "home", mlflow=mlflow_store.uri, publication="person")
    yield from open_page(people, settings)


def test_a_plan_is_shown_with_its_chart_and_tables(page: Page, planned: Plan) -> None:
    """The list leads to the plan; the plan has its drawing and the tables of the report, and for a viewer no form."""
    assert planned.plan_id in page.get("/plans")
    shown = page.get(f"/plans/{planned.plan_id}")
    for part in ("Planned GPUs by pool", "Shortage by series", "Limits that bind", "What if"):
        assert part in shown
    assert "data-write" not in shown
    assert (
        "There is no such thing"
        in page.client.get("/plans/none", headers={"x-who": "viewer", "accept": "text/html"}).text
    )


def test_a_plan_is_approved_then_published(page: Page, planned: Plan, mlflow_store: Store) -> None:
    """Approval and publication have their own rights; unapproved, nothing is published."""
    path = f"/plans/{planned.plan_id}/decision"
    assert page.post(path, {"answer": "publish"})[0] == 409
    assert page.post(path, {"answer": "approve"}, who="viewer")[0] == 403
    assert page.post(path, {"answer": "publish"}, who="boss")[0] == 403
    assert page.post(path, {"answer": "approve"}, who="boss")[0] == 200
    [row] = plan.list_plans(mlflow_store)
    assert row["approved.note"].endswith("by boss (tests): no reason was given")
    assert page.post(path, {"answer": "publish"}) == (200, {"message": "The plan holds now."})
    assert {free.pool for free in page.ledger.calendar(planned.issued_at, planned.issued_at.replace(hour=23))}
    assert "published" in page.get(f"/plans/{planned.plan_id}")


def test_a_rejected_plan_is_not_published(page: Page, planned: Plan, mlflow_store: Store) -> None:
    """A rejection takes the approval back and stands until somebody approves."""
    path = f"/plans/{planned.plan_id}/decision"
    page.post(path, {"answer": "approve"})
    assert page.post(path, {"answer": "reject", "why": "too dear"})[0] == 200
    status, said = page.post(path, {"answer": "publish"})
    assert (status, "was rejected" in said["detail"]) == (409, True)
    assert not plan.is_approved(mlflow_store, planned)
    assert "by chief (tests): too dear" in page.get("/plans")
    assert page.post(path, {"answer": "approve"})[0] == 200
    assert page.post(path, {"answer": "publish"})[0] == 200


def test_what_costs_more_than_is_set_waits_for_a_person(planned: Plan, tmp_path: Path) -> None:
    """With a threshold only a dear plan needs an approval."""
    cheap, dear = (Settings(home=tmp_path, approve_above=planned.total_cost + extra) for extra in (1, -1))
    assert [workflows.needs_approval(planned, settings) for settings in (cheap, dear)] == [False, True]


def test_the_report_comes_from_mlflow_and_may_run_nothing(page: Page, planned: Plan, mlflow_store: Store) -> None:
    """What a stage has kept with the plan is shown as it is, in a sandbox; before that the page says what writes it."""
    answer = page.client.get("/report", headers={"x-who": "viewer"})
    assert (answer.status_code, "gangplan report" in answer.text) == (404, True)
    plan.log_report(mlflow_store, planned, "<h1>the report</h1><script>alert(1)</script>")
    page.client.app.state.site.shelf.forget()
    answer = page.client.get("/report", headers={"x-who": "viewer"})
    assert answer.text.startswith("<h1>the report</h1>")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert page.client.get("/report?look=pink", headers={"x-who": "viewer"}).status_code == 422


def test_a_report_takes_the_colours_of_the_host(page: Page, planned: Plan, mlflow_store: Store, tmp_path: Path) -> None:
    """Its own page cannot ask for them, so its address says dark or light."""
    plan.log_report(mlflow_store, planned, make_world().build(tmp_path / "report.html").read_text())
    for look, wanted in (("", '<html lang="en">'), ("?look=dark", '<html class="dark" lang="en">')):
        answer = page.client.get(f"/report{look}", headers={"x-who": "viewer"})
        assert wanted in answer.text
        assert ":root.dark {" in answer.text


def test_a_plan_without_an_explanation_is_shown(page: Page, planned: Plan, mlflow_store: Store) -> None:
    """A plan that was kept by an older build."""
    world = make_world()
    bare = replace(world.plan, plan_id=type(planned.plan_id)("plan-bare"), explanation=())
    plan.log_plan(bare, world.forecast, mlflow_store)
    assert "has no explanation" in page.get("/plans/plan-bare")
