"""A page of the tests' own: a ledger in memory, a fixed clock, and visitors with the roles that a test gives them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient

from gangplan.config import Settings
from gangplan.reserve import OperableLedger
from gangplan.serve import Link, Right, make_app
from gangplan.testing import NOW, a_calendar, a_pool, a_request

EVERYTHING = frozenset(Right)


@dataclass(frozen=True)
class Person:
    """A visitor as a test wants one."""

    name: str = "ada (tests)"
    rights: frozenset[Right] = frozenset()
    blind_to: frozenset[str] = frozenset()

    def may(self, right: Right, key: str = "") -> bool:
        """What the test gave."""
        return right in self.rights

    def hidden(self, keys: Iterable[str]) -> frozenset[str]:
        """Those that the test hides."""
        return self.blind_to & set(keys)

    def links(self, key: str) -> tuple[Link, ...]:
        """One link out."""
        return (Link(text="The DAG run", href=f"/dags/{key}"),)


@dataclass
class Page:
    """The page in a test client: who is logged in, its ledger, its clock."""

    client: TestClient
    people: dict[str, Person]
    url: str
    now: list[datetime] = field(default_factory=list)

    @property
    def ledger(self) -> OperableLedger:
        """The ledger that the page has open."""
        return self.client.app.state.site.live._opened()

    def get(self, path: str, who: str = "viewer", **query: object) -> str:
        """Look at a page, which must be there."""
        answer = self.client.get(path, params=query, headers={"x-who": who, "accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(
        self, path: str, body: dict[str, object], who: str = "chief", **headers: str
    ) -> tuple[int, dict[str, str]]:
        """Write, as the page itself does."""
        sent = {"x-who": who, "sec-fetch-site": "same-origin", **headers}
        answer = self.client.post(path, json=body, headers=sent)
        return answer.status_code, answer.json()


@pytest.fixture
def people() -> dict[str, Person]:
    """A viewer, and one who may do everything."""
    return {"viewer": Person(), "chief": Person(name="chief (tests)", rights=EVERYTHING)}


@pytest.fixture
def page(tmp_path: Path, people: dict[str, Person]) -> Generator[Page]:
    """The page over an empty ledger, without MLflow."""
    yield from open_page(people, Settings(home=tmp_path / "home"))


def open_page(people: dict[str, Person], settings: Settings) -> Generator[Page]:
    """Open the page with these people and settings."""
    now = [NOW]

    def visitor(request: Request) -> Person:
        person = people.get(request.headers.get("x-who", ""))
        if person is None:
            raise HTTPException(401, "Not authenticated")
        return person

    app = make_app(visitor, ledger_url=lambda: "memory://", settings=lambda: settings, clock=lambda: now[0])
    with TestClient(app, base_url="http://testserver") as client:
        yield Page(client=client, people=people, url="memory://", now=now)
        app.state.site.live.close()


@pytest.fixture
def busy(page: Page) -> Page:
    """The page over 2 nodes x 4 GPUs: `job-held` has all for an hour, `job-next` and `job-later` wait for it."""
    page.ledger.publish(a_calendar([a_pool()], hours=[2] * 48))
    for key, tenant in (("job-held", "vision"), ("job-next", "search"), ("job-later", "risk")):
        page.ledger.submit(a_request(key, tenant=tenant))
    return page


@pytest.fixture
def let_time_pass(page: Page) -> Callable[[timedelta], None]:
    """Moves the page's clock."""

    def move(by: timedelta) -> None:
        page.now[0] += by

    return move
