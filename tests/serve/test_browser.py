"""The page in a real browser: from the keyboard, live, in light and dark, for everyone."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import uvicorn
from fastapi import HTTPException, Request
from tests.browser import chromium, new_page, violations
from tests.serve.conftest import EVERYTHING, Person

from gangplan.config import Settings
from gangplan.reserve import OperableLedger, Policy, Quota, TenantPolicy
from gangplan.serve import make_app
from gangplan.testing import NOW, a_calendar, a_pool, a_request
from gangplan.types import ReservationState

pytestmark = pytest.mark.present("a browser and a server go by the machine's clock")
PAGES = (
    "",
    "find?key=job-next",
    "what-if?tenant=new&pods=2&gpus=4&accelerators=h100&duration=1h",
    "quota",
    "models",
    "reservations/r-none",
)


class Served:
    """The page on a port of this machine, over a ledger in memory; whoever has the cookie `who` is logged in."""

    def __init__(self, home: Path) -> None:
        people = {"viewer": Person(), "chief": Person(name="chief (tests)", rights=EVERYTHING)}

        def visitor(request: Request) -> Person:
            person = people.get(request.cookies.get("who", ""))
            if person is None:
                raise HTTPException(401, "Not authenticated")
            return person

        settings = Settings(home=home)
        app = make_app(visitor, ledger_url=lambda: "memory://", settings=lambda: settings, clock=lambda: NOW)
        self.ledger: OperableLedger = app.state.site.live.ask(lambda ledger: ledger)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/"

    def cookie(self, who: str) -> list[dict[str, str]]:
        """Return the cookie of a person who is logged in."""
        return [{"name": "who", "value": who, "url": self.url}]


@pytest.fixture
def served(tmp_path: Path) -> Generator[Served]:
    """The page over 2 nodes x 4 GPUs: one gang holds them all, two wait."""
    served = Served(tmp_path)
    served.ledger.publish(a_calendar([a_pool()], hours=[2] * 48))
    quotas = {"vision": TenantPolicy(quotas={"h100": Quota(nominal=8)})}
    served.ledger.set_policy(Policy(tenants=quotas), by="test", why="one quota")
    for key, tenant in (("job-held", "vision"), ("job-next", "search"), ("job-later", "risk")):
        served.ledger.submit(a_request(key, tenant=tenant))
    yield served
    served.server.should_exit = True
    served.thread.join(10)


def test_axe_finds_nothing_in_light_and_dark(served: Served) -> None:
    """No page has a mistake that a machine can find, whatever the system's colours; each has its own background."""
    backgrounds: dict[str, str] = {}
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = new_page(browser, color_scheme=scheme)
            page.context.add_cookies(served.cookie("chief"))
            for path in (*PAGES, f"reservations/{served.ledger.find('job-next').id}", "reservations/r-none"):
                page.goto(served.url + path)
                assert violations(page) == [], (scheme, path)
            backgrounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert page.wrong == []  # type: ignore[attr-defined]
    assert backgrounds["light"] != backgrounds["dark"]


def test_the_calendar_works_from_the_keyboard_alone(served: Served) -> None:
    """The calendar is one stop of the Tab key, arrows move in it and say what they are on, Enter opens and cancels."""
    waiting = served.ledger.find("job-next")
    with chromium() as browser:
        page = new_page(browser)
        page.context.add_cookies(served.cookie("chief"))
        page.goto(served.url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#gantt a') !== null"):
                break
        assert "vision, 4 of 8 GPUs" in page.locator("#told").inner_text()
        page.keyboard.press("Tab")
        assert not page.evaluate("document.activeElement.closest('#gantt a') !== null")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert "search, 8 GPUs, promised start" in page.locator("#told").inner_text()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/reservations/{waiting.id}")
        page.locator("summary").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("#said", has_text="The reservation is cancelled.").wait_for()
    assert served.ledger.get(waiting.id).state is ReservationState.CANCELLED


def test_the_page_follows_the_ledger_and_keeps_the_focus(served: Served) -> None:
    """A gang that comes appears by itself, and who moved within the calendar stays where he was."""
    with chromium() as browser:
        page = new_page(browser)
        page.context.add_cookies(served.cookie("viewer"))
        page.goto(served.url)
        page.locator("#gantt a").first.focus()
        page.keyboard.press("ArrowRight")
        before = page.locator("#told").inner_text()
        served.ledger.submit(a_request("job-new", tenant="audio"))
        page.locator("tr", has_text="job-new").wait_for()
        assert page.evaluate("document.activeElement.querySelector('title')?.textContent") == before
        assert page.wrong == []  # type: ignore[attr-defined]


def test_a_form_of_another_site_changes_nothing(served: Served) -> None:
    """A page of another origin posts with the cookie of who is logged in: refused, as a form and as JSON."""
    waiting = served.ledger.find("job-next")
    target = f"{served.url}reservations/{waiting.id}/cancel"
    with chromium() as browser:
        page = new_page(browser)
        page.context.add_cookies(served.cookie("chief"))
        field = """<input name='{"why":"' value='"}'>"""  # as text, it is JSON
        evil = f'<form method="post" action="{target}" enctype="text/plain">{field}</form>'
        page.route("http://127.0.0.2/*", lambda route: route.fulfill(body=evil, content_type="text/html"))
        page.goto("http://127.0.0.2/")
        with page.expect_response("**/cancel") as answer:
            page.evaluate("document.forms[0].submit()")
        assert answer.value.status in (401, 403)
    assert served.ledger.get(waiting.id).state is ReservationState.WAITING
