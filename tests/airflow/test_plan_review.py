"""A person's word on a dear plan, given in Airflow: asked once, answered by its API, carried out in the ledger."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG
from fastapi.testclient import TestClient
from tests.airflow.test_review import ROOT, answered, empty_store  # noqa: F401  fixtures
from tests.airflow.versions import AIRFLOW, DagBag
from tests.report.conftest import make_world

from gangplan import plan, workflows
from gangplan.config import load_settings
from gangplan.reserve import open_ledger
from gangplan.tracking import Store


@pytest.fixture(scope="module")
def dag(metadata: None) -> DAG:
    """The DAG that asks."""
    return DagBag(str(ROOT / "tests" / "airflow" / "dags")).dags["gangplan_plan_review"]


@pytest.fixture
def dear(empty_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """A plan that costs more than is set, with an empty ledger: its id."""
    world = make_world()
    monkeypatch.setenv("GANGPLAN_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    monkeypatch.setenv("GANGPLAN_APPROVE_ABOVE", str(world.plan.total_cost - 1))
    return plan.log_plan(world.plan, world.forecast, empty_store).plan_id


def planned_gpus() -> int:
    """Return the most GPUs that the ledger's calendar has in the next day."""
    settings = load_settings()
    now = settings.clock()
    with open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        return max((span.planned_gpus for span in ledger.calendar(now, now + timedelta(days=1))), default=0)


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="before Airflow 3.3, `dag.test` gives a waiting question no answer")
@pytest.mark.parametrize("choice", ["Approve", "Reject"])
def test_a_person_decides_on_a_dear_plan(choice: str, dag: DAG, web: TestClient, empty_store: Store, dear: str) -> None:  # noqa: F811
    """Approved, it holds; rejected, it does not: each in the name of who answered, and nobody is asked again."""
    state, tasks, asked = answered(dag, web, choice, "the peak is real")
    assert (state, asked["status"]) == ("success", "200"), tasks
    assert asked["subject"] == f"May the plan {dear} hold?"
    assert "(`approve_above`)" in asked["body"]
    assert f"[The plan, with pictures](/gangplan/plans/{dear})" in asked["body"]
    row = plan.list_plans(empty_store)[0]
    said = {"Approve": "approved", "Reject": "rejected"}[choice]
    assert (row[said], row[f"{said}.note"].endswith("by admin (Airflow): the peak is real")) == ("yes", True)
    assert (row["published"] == "yes", planned_gpus() > 0) == ((True, True) if choice == "Approve" else (False, False))
    assert workflows.open_plans(load_settings()) == ()
