"""The page in Airflow's own web server and a real browser: sign in, look, approve, be refused."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.models import Connection
from airflow.utils.session import create_session
from tests.airflow.test_review import empty_store, store  # noqa: F401  fixtures
from tests.browser import chromium, new_page, violations
from tests.report.conftest import make_world
from tests.servers import serving

from gangplan import forecast, plan
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import NOW, a_calendar, a_pool, a_request
from gangplan.tracking import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WRITE = """async ([path, body]) => (await fetch(path, {method: "POST", body: JSON.stringify(body),
    headers: {"Content-Type": "application/json"}})).status"""


@pytest.fixture
def browser() -> Generator[Browser]:
    """Chromium; without it the test does not run, and no server is started for it."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def ledger(metadata: None, tmp_path: Path) -> Generator[Ledger]:
    """The ledger of the connection that an administrator has added: a gang holds its 8 GPUs, a DAG's gang waits."""
    url = f"sqlite:///{tmp_path / 'connected.db'}"
    with create_session() as session:
        session.add(Connection(conn_id="gangplan_default", conn_type="gangplan", extra=json.dumps({"url": url})))
    with open_ledger(url) as ledger:
        ledger.publish(a_calendar([a_pool()], start=NOW, hours=[2] * 48))
        ledger.submit(a_request("another gang"))
        ledger.submit(a_request("airflow/nightly/run-7/reserve/-1", tenant="search"))
        yield ledger
    with create_session() as session:
        session.query(Connection).filter(Connection.conn_id == "gangplan_default").delete()


@pytest.fixture
def airflow(browser: Browser, ledger: Ledger, store: Store, tmp_path: Path) -> Generator[str]:  # noqa: F811
    """Airflow's API server, a process of its own, with a challenger that waits for a person, and a plan."""
    world = make_world()
    plan.log_plan(world.plan, world.forecast, store)
    command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--workers", "1"]
    with serving(command, os.environ, tmp_path, "api/v2/monitor/health") as url:
        yield url


def sign_in(browser: Browser, url: str, who: str) -> Page:
    """Return a page whose user has signed in by Airflow's own form."""
    passwords = json.loads((Path(os.environ["AIRFLOW_HOME"]) / "passwords.json").read_text())
    page = new_page(browser, color_scheme="light")
    page.goto(url)
    page.fill("input[name=username]", who)
    page.fill("input[name=password]", passwords[who])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda place: "/auth/login" not in place)
    return page


def background(frame: Page) -> str:
    """Return the background of the page in Airflow's frame."""
    inner = frame.frame_locator("iframe").locator("body")
    return str(inner.evaluate("body => getComputedStyle(body).backgroundColor"))


def test_people_use_the_page(browser: Browser, airflow: str, store: Store) -> None:  # noqa: F811
    """A viewer looks and is refused; a user approves; without a session, and from elsewhere, nothing is done."""
    decide = [f"{airflow}/gangplan/models/2/decision", {"answer": "approve"}]

    viewer = sign_in(browser, airflow, "viewer")
    viewer.goto(f"{airflow}/plugin/gangplan")
    inside = viewer.frame_locator("iframe")
    inside.locator("tr", has_text="airflow/nightly/run-7/reserve").wait_for()
    light = background(viewer)
    viewer.evaluate("document.documentElement.classList.replace('light', 'dark')")
    viewer.wait_for_function("document.querySelector('iframe').contentDocument.documentElement.matches('.dark')")
    assert background(viewer) != light
    inside.locator("td a", has_text="airflow/nightly/run-7/reserve").click()
    inside.locator("a", has_text="DAG run run-7").click()
    viewer.wait_for_url("**/dags/nightly/runs/run-7")  # out of the frame, which lets no link out by itself

    viewer.evaluate("localStorage.setItem('theme', 'dark')")  # as Airflow's own switch does
    viewer.goto(f"{airflow}/plugin/gangplan")
    inside.locator("nav a", has_text="Models").click()
    inside.locator("td a", has_text="Version 2").click()
    report = inside.frame_locator("iframe")
    report.locator("html.dark h1", has_text="should it steer").wait_for()

    viewer.goto(f"{airflow}/gangplan/models/2")
    viewer.frame_locator("iframe").locator("h1", has_text="should it steer").wait_for()
    assert viewer.locator("form[data-write]").count() == 0
    assert violations(viewer) == []
    assert viewer.evaluate(WRITE, decide) == 403

    nobody = new_page(browser)
    assert nobody.goto(f"{airflow}/gangplan/").status == 401  # type: ignore[union-attr]

    user = sign_in(browser, airflow, "user")
    form = f'<form method="post" action="{decide[0]}" enctype="text/plain"><input name="why" value="forged"></form>'
    user.route("http://127.0.0.2/*", lambda route: route.fulfill(body=form, content_type="text/html"))
    user.goto("http://127.0.0.2/")
    with user.expect_navigation(url="**/decision") as answer:  # the refusal is shown: the page is at rest again
        user.evaluate("document.forms[0].submit()")
    assert answer.value.status in (401, 403)
    assert forecast.show_version(store, "2").aliases == ("challenger",)

    user.goto(f"{airflow}/gangplan/models/2")
    user.fill("input[name=why]", "as good, on newer data")
    user.click("text=Approve: it may steer")
    user.locator("#said", has_text="Version 2 is approved, by user (Airflow).").wait_for()
    assert forecast.history(store)[-1].why == "as good, on newer data"
    assert user.evaluate(WRITE, [decide[0], {"answer": "reject"}]) == 409  # the champion cannot be rejected

    user.goto(f"{airflow}/gangplan/plans")
    user.locator("td a").first.click()
    user.click("button:text('Reject')")
    user.locator("#said", has_text="The plan is rejected, by user (Airflow).").wait_for()
    assert user.locator("button", has_text="Publish").count() == 0
    assert plan.list_plans(store)[0]["rejected"] == "yes"
