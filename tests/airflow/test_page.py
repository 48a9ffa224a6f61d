"""The page in Airflow: under its users, by its roles, over the ledger of its connection."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount
from tests.airflow.test_review import empty_store, store  # noqa: F401  fixtures

from gangplan import forecast
from gangplan.clock import floor_hour, system_clock
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.tracking import Store
from gangplan.types import ReservationState
from gangplan_airflow.web import AirflowVisitor, dag_of, make_web

KEY = "airflow/nightly/manual__2026-03-02T09:00:00+00:00/train.reserve/-1"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    """The ledger of the connection: 8 GPUs that another gang holds, and a DAG's gang that waits."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    given = json.dumps({"conn_type": "gangplan", "extra": {"url": url}})
    with pytest.MonkeyPatch.context() as patch, open_ledger(url) as ledger:
        patch.setenv("AIRFLOW_CONN_GANGPLAN_DEFAULT", given)
        ledger.publish(a_calendar([a_pool()], start=floor_hour(system_clock()), hours=[2] * 48))
        ledger.submit(a_request("another gang"))
        ledger.submit(a_request(KEY, tenant="search"))
        yield ledger


@pytest.fixture(scope="module")
def web(metadata: None, ledger: Ledger) -> Generator[TestClient]:
    """Airflow's web server with the plugin, whose page is made anew: one made before keeps its ledger for a while."""
    from airflow.api_fastapi.app import create_app

    app = create_app(apps="core")
    app.router.routes.insert(0, Mount("/gangplan", make_web()))
    with TestClient(app, base_url="http://testserver") as client:
        yield client


def headers(web: TestClient, who: str, **more: str) -> dict[str, str]:
    """Return the headers of a user who has logged in, and of a write from the page itself."""
    passwords = json.loads((Path(os.environ["AIRFLOW_HOME"]) / "passwords.json").read_text())
    answer = web.post("/auth/token", json={"username": who, "password": passwords[who]})
    return {"Authorization": f"Bearer {answer.json()['access_token']}", "sec-fetch-site": "same-origin", **more}


def test_the_connection_names_the_ledger(web: TestClient, ledger: Ledger) -> None:
    """What the operators reserve on is what the page shows, whatever gangplan's own settings name."""
    shown = web.get("/gangplan/", headers=headers(web, "viewer"))
    assert shown.status_code == 200
    assert "train.reserve" in shown.text
    assert "viewer (Airflow)" in shown.text
    assert web.get("/gangplan/").status_code == 401


def test_a_reservation_leads_to_its_dag_run_and_task(web: TestClient, ledger: Ledger) -> None:
    """The links are those of Airflow's own pages."""
    shown = web.get("/gangplan/find", params={"key": KEY}, headers=headers(web, "viewer")).text
    run = "/dags/nightly/runs/manual__2026-03-02T09%3A00%3A00%2B00%3A00"
    assert f'href="{run}" data-out="_top"' in shown
    assert f'href="{run}/tasks/train.reserve"' in shown


def test_the_keys_of_dags_that_one_may_not_read_are_hidden(monkeypatch: pytest.MonkeyPatch, web: TestClient) -> None:
    """The auth manager says which DAGs a user may read; other people's keys are not on his page."""
    from airflow.api_fastapi.app import get_auth_manager

    monkeypatch.setattr(get_auth_manager(), "filter_authorized_dag_ids", lambda **_: set())
    shown = web.get("/gangplan/", headers=headers(web, "viewer")).text
    assert "train.reserve" not in shown
    assert "(not shown to you)" in shown
    assert "another gang" in shown  # it belongs to no DAG


def test_roles_decide_who_cancels(web: TestClient, ledger: Ledger) -> None:
    """A viewer may not; who may change a DAG's runs may cancel its gang, but not one that belongs to no DAG."""
    ours, other = ledger.find(KEY), ledger.find("another gang")
    refused = web.post(f"/gangplan/reservations/{ours.id}/cancel", json={}, headers=headers(web, "viewer"))
    assert refused.status_code == 403
    refused = web.post(f"/gangplan/reservations/{other.id}/cancel", json={}, headers=headers(web, "user"))
    assert refused.status_code == 403
    forged = headers(web, "user", **{"sec-fetch-site": "cross-site"})
    assert web.post(f"/gangplan/reservations/{ours.id}/cancel", json={}, headers=forged).status_code == 403
    assert ledger.get(ours.id).state is ReservationState.WAITING
    done = web.post(f"/gangplan/reservations/{ours.id}/cancel", json={}, headers=headers(web, "user"))
    assert done.json() == {"message": "The reservation is cancelled."}
    assert web.post(f"/gangplan/reservations/{other.id}/cancel", json={}, headers=headers(web, "op")).status_code == 200


def test_keys_are_read_as_the_operators_write_them() -> None:
    """Mapped tasks, repeated requests, runs with a slash in their name, keys of one's own."""
    links = AirflowVisitor.links
    place = "/dags/d/runs/a%2Fb/tasks/t"
    assert [link.href for link in links(None, "airflow/d/a/b/t/3#2")] == ["/dags/d/runs/a%2Fb", f"{place}/mapped/3"]  # type: ignore[arg-type]
    assert links(None, "my own key") == ()  # type: ignore[arg-type]
    assert (dag_of("airflow/d/r/t/-1"), dag_of("my/own/key")) == ("d", "")


def test_models_are_reviewed_on_the_page(
    web: TestClient,
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The challenger's report comes from MLflow; a viewer may read it, a user may decide, once, with or without why."""
    page = web.get("/gangplan/models", headers=headers(web, "viewer")).text
    assert "Version 2 waits for a person" in page
    assert "data-write" not in web.get("/gangplan/models/2", headers=headers(web, "viewer")).text
    assert "data-write" in web.get("/gangplan/models/2", headers=headers(web, "user")).text
    report = web.get("/gangplan/models/2/report", headers=headers(web, "viewer"))
    assert "the champion, version 1" in report.text
    assert report.headers["content-security-policy"].startswith("sandbox;")
    decide = {"url": "/gangplan/models/2/decision", "json": {"answer": "approve"}}
    assert web.post(**decide, headers=headers(web, "viewer")).status_code == 403
    monkeypatch.setenv("GANGPLAN_REVIEWERS", '["op"]')
    assert web.post(**decide, headers=headers(web, "user")).status_code == 403  # others are named
    monkeypatch.setenv("GANGPLAN_REVIEWERS", '["user"]')
    assert web.post(**decide, headers=headers(web, "user")).status_code == 200
    assert "champion" in forecast.show_version(store, "2").aliases
    change = forecast.history(store)[-1]
    assert (change.by, change.why) == ("user (Airflow)", "no reason was given")
    assert web.post(**decide, headers=headers(web, "user")).status_code == 409
