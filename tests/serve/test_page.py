"""The page over a ledger in memory: what is shown to whom, what may be written, and what a viewer costs the ledger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.serve.conftest import Page, Person

from gangplan.errors import UnavailableError
from gangplan.reserve import Policy, Quota, TenantPolicy, open_ledger
from gangplan.serve import live
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import ReservationState

PAGES = ("/", "/quota", "/models", "/plans", "/demand", "/what-if")
ROUTES = (
    *PAGES,
    "/reservations",
    "/reservations/r-1",
    "/models/1",
    "/models/1/report",
    "/plans/p",
    "/report",
    "/events",
)


@pytest.mark.parametrize("path", [*ROUTES, "/find?key=a", "/static/page.js", "/static/htmx.min.js"])
def test_every_route_needs_a_user(busy: Page, path: str) -> None:
    """Without a user nothing is shown, not even a script."""
    assert busy.client.get(path).status_code == 401


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_page_says_what_to_do_next(page: Page, path: str) -> None:
    """Before anything has happened each page is there and names a command or a DAG."""
    shown = page.get(path)
    assert re.search(r"gangplan (ingest|train|plan|reserve|policy)|name=.tenant.", shown)


def test_the_calendar_has_a_link_with_a_title_for_each_bar(busy: Page) -> None:
    """Each node of a holder has its bar, those who wait have one by their promised start; each leads to its page."""
    shown = busy.get("/")
    drawing = shown[shown.index("<svg") : shown.index("</svg>")]
    bars = re.findall(r'<a class="(\w+) [^"]*" href="(/reservations/[^"]+)"><title>([^<]+)</title>', drawing)
    assert [look for look, _, _ in bars] == ["run", "run", "promise", "promise"]
    assert "vision, 4 of 8 GPUs" in bars[0][2]
    assert "Mon 02 Mar 10:00 to Mon 02 Mar 11:00. job-next" in bars[2][2]
    assert "job-held" in busy.get(bars[0][1])


def test_promised_windows_and_estimates_are_drawn_differently(busy: Page) -> None:
    """A window that is accepted is hatched, a start that nobody promised is dashed."""
    busy.ledger.set_policy(Policy(depth=2), by="test", why="a short line")
    later = NOW + timedelta(hours=6)
    busy.ledger.submit(a_request("window", earliest_start=later, latest_start=later + timedelta(hours=1), priority=200))
    busy.ledger.submit(a_request("far"))
    looks = re.findall(r'<a class="(\w+) [^"]*" href="/reservations/\S+"><title>[^<]*\. (\w+)</title>', busy.get("/"))
    drawn = {key: look for look, key in looks}
    assert (drawn["window"], drawn["far"]) == ("window", "expect")


def test_many_nodes_are_rows_of_pools(page: Page) -> None:
    """With more than 64 nodes in use a row is a pool; one of them opens as nodes, by pages."""
    page.ledger.publish(a_calendar([a_pool(max_nodes=70)], hours=[70] * 4))
    for number in range(35):
        page.ledger.submit(a_request(f"job {number}"))
    shown = page.get("/")
    assert "Reservations on pools over time" in shown
    assert '<a href="/?pool=h100-owned">' in shown
    assert shown.count('<a class="run ') == 20  # as many as a row has room for
    assert "15 not shown" in shown
    opened = page.get("/", pool="h100-owned")
    assert opened.count('<a class="run ') == 64
    assert page.get("/", pool="h100-owned", nodes="2").count('<a class="run ') == 6


def test_the_line_has_position_start_and_reason(busy: Page) -> None:
    """Who waits sees its place, its promised start and who is in the way."""
    shown = busy.get("/")
    row = shown[shown.index('<tr id="w-') :]
    assert 'class="n">1</td>' in row
    assert "promised" in row
    assert "Held by: vision job-held" in row


def test_long_lists_come_in_pages(busy: Page) -> None:
    """The line shows twenty at a time; a page that there is not is the nearest one."""
    for number in range(30):
        busy.ledger.submit(a_request(f"job {number}"))
    first, last = busy.get("/"), busy.get("/", line="99")
    assert "1 to 20 of 32" in first
    assert "21 to 32 of 32" in last
    assert "21 to 32 of 32" in busy.get("/", line="9" * 5000)
    assert first.count('<tr id="w-') == 20


def test_no_token_is_on_any_page(busy: Page) -> None:
    """The fencing token of a holder is on no page and in no list."""
    held = busy.ledger.find("job-held")
    busy.ledger.release(held.id, held.token or 0)
    granted = busy.ledger.find("job-next")
    for path in ("/", f"/reservations/{granted.id}", "/reservations", "/quota"):
        shown = busy.get(path)
        assert "token" not in shown.lower()


def test_quotas_show_used_nominal_and_borrowed(busy: Page) -> None:
    """A tenant that holds more than its own borrows the rest of its cohort."""
    own = {"h100": Quota(nominal=6)}
    tenants = {name: TenantPolicy(cohort="all", quotas=own) for name in ("vision", "search")}
    busy.ledger.set_policy(Policy(tenants=tenants), by="test", why="quotas")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", busy.get("/quota"), flags=re.DOTALL)
    start = cells.index("vision")
    assert cells[start : start + 7] == ["vision", "all", "h100", "8", "6", "2", "12"]


def test_what_a_visitor_may_not_see_is_hidden_everywhere(busy: Page, people: dict[str, Person]) -> None:
    """The key of a DAG that is not his is neither in a bar's title, nor in a reason, nor in the list."""
    people["viewer"] = Person(blind_to=frozenset({"job-held"}))
    held = busy.ledger.submit(a_request("job-held", tenant="vision"), "airflow/job-held/monday/big/1")
    for path in ("/", f"/reservations/{held.id}", "/reservations", f"/reservations/{busy.ledger.find('job-next').id}"):
        shown = busy.get(path)
        assert "job-held" not in shown, path
        assert "(not shown to you)" in shown, path
    assert "/dags/" not in busy.get(f"/reservations/{held.id}")
    assert "/dags/job-next" in busy.get(f"/reservations/{busy.ledger.find('job-next').id}")


def test_cancel_needs_the_right_the_same_origin_and_json(busy: Page) -> None:
    """A viewer, another site, a plain form: refused, and nothing is changed; with all three it is done."""
    waiting = busy.ledger.find("job-next")
    path = f"/reservations/{waiting.id}/cancel"
    assert busy.post(path, {}, who="viewer")[0] == 403
    assert busy.post(path, {}, who="nobody")[0] == 401
    for site in ("cross-site", "same-site", "none", ""):
        assert busy.post(path, {}, **{"sec-fetch-site": site})[0] == 403
    form = busy.client.post(path, data={"why": "x"}, headers={"x-who": "chief", "sec-fetch-site": "same-origin"})
    assert form.status_code == 415
    assert busy.post(path, {"now": "yes"})[0] == 422
    assert busy.ledger.get(waiting.id).state is ReservationState.WAITING
    assert busy.post(path, {}) == (200, {"message": "The reservation is cancelled."})
    assert busy.ledger.get(waiting.id).state is ReservationState.CANCELLED
    assert "cancelled" in busy.get(f"/reservations/{waiting.id}")


def test_only_who_may_cancel_is_offered_it(busy: Page) -> None:
    """The viewer sees no button."""
    path = f"/reservations/{busy.ledger.find('job-next').id}"
    assert "data-write" in busy.get(path, who="chief")
    assert "data-write" not in busy.get(path)


def test_what_if_says_when_a_gang_would_start(busy: Page) -> None:
    """The answer is the ledger's, and names what is wrong with a question."""
    asked = {"tenant": "new", "pods": "2", "gpus": "4", "accelerators": "h100", "duration": "1h"}
    assert "Mon 02 Mar 12:00" in busy.get("/what-if", **asked)
    assert "is in no pool" in busy.get("/what-if", **asked | {"accelerators": "tpu"})
    assert "is no whole number" in busy.get("/what-if", **asked | {"pods": "many"})
    assert "is no whole number" in busy.get("/what-if", **asked | {"gpus": "9" * 5000})
    assert "is not a duration" in busy.get("/what-if", **asked | {"duration": "soon"})
    assert "is longer than any duration" in busy.get("/what-if", **asked | {"duration": f"{'9' * 400}h"})
    assert len(busy.ledger.list()) == 3


def test_a_request_key_leads_to_its_reservation(busy: Page) -> None:
    """A link from elsewhere knows only the key."""
    answer = busy.client.get("/find", params={"key": "job-next"}, headers={"x-who": "viewer"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/reservations/{busy.ledger.find('job-next').id}")


def test_an_unknown_reservation_is_a_page_that_leads_back(busy: Page) -> None:
    """A person gets a page, a program JSON."""
    for accept, wanted in (("text/html", "To the calendar"), ("*/*", '{"detail":')):
        answer = busy.client.get("/reservations/r-none", headers={"x-who": "viewer", "accept": accept})
        assert answer.status_code == 404
        assert wanted in answer.text


def test_the_browser_may_fetch_nothing_from_elsewhere(busy: Page) -> None:
    """A page has a policy that allows its own scripts alone, and names no other host."""
    answer = busy.client.get("/", headers={"x-who": "viewer"})
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"(src|href)=.(https?:)?//", answer.text)


def a_live(url: str, clock: FakeClock, ticks: list[float]) -> live.Live:
    """The ledger as viewers see it, with a stopwatch of the test's own."""
    return live.Live(lambda: url, clock, monotonic=lambda: ticks[0])


def test_all_viewers_together_cost_one_query_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many look, one thing is read in each second; each thing is read when it is due."""
    ticks, seen = [0.0], list[str]()
    looking = a_live("memory://", FakeClock(), ticks)
    counted = {
        name: (every, lambda ledger, now, name=name, read=read: (seen.append(name), read(ledger, now))[1])
        for name, (every, read) in live._READS.items()
    }
    monkeypatch.setattr(live, "_READS", counted)
    for second in range(61):
        ticks[0] = float(second)
        for _ in range(50):
            looking.view()
    looking.close()
    assert len(seen) == len(counted) + 60
    assert {name: seen.count(name) > 1 for name in counted} == dict.fromkeys(counted, True)
    assert seen.count("reservations") > 30


def test_a_change_is_told_and_silence_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream tells the first view and then only what differs."""
    ticks, clock = [0.0], FakeClock()
    looking = a_live("memory://", clock, ticks)

    async def pass_a_second(_: float) -> None:
        ticks[0] += 1
        if ticks[0] == 3:
            looking.act(lambda ledger: ledger.submit(a_request("new")))
        if ticks[0] > 20:
            monkeypatch.setattr(live, "STREAM_S", 0.0)

    monkeypatch.setattr(live.asyncio, "sleep", pass_a_second)
    monkeypatch.setattr(live, "STREAM_S", 18.0)

    async def listen() -> list[str]:
        return [event async for event in looking.changes()]

    events = asyncio.run(listen())
    looking.close()
    changes = [event for event in events if event.startswith("event: change")]
    assert events[0].startswith("retry:")
    assert changes[0] == "event: change\ndata: 0\n\n"
    assert 2 <= len(changes) <= 4  # the gang, and what is read of it later
    assert any(event.startswith(":") for event in events)


def test_a_ledger_that_does_not_answer_leaves_the_last_view(
    busy: Page, monkeypatch: pytest.MonkeyPatch, let_time_pass: Callable[[timedelta], None]
) -> None:
    """The calendar stays, and says since when it is old and why."""
    busy.get("/")
    looking = busy.client.app.state.site.live

    def fails(*_: object) -> None:
        raise UnavailableError("ledger: does not answer: try again")

    monkeypatch.setattr(looking, "_read", fails)
    looking._looked = float("-inf")
    shown = busy.get("/")
    assert "does not answer" in shown
    assert "vision" in shown


def test_another_connection_is_another_ledger(tmp_path: object) -> None:
    """Somebody changes where the ledger is: a quarter of a minute later the page shows the other one."""
    urls, ticks = [f"sqlite:///{tmp_path}/a.db"], [0.0]
    looking = live.Live(lambda: urls[0], FakeClock(), monotonic=lambda: ticks[0])
    assert looking.view().reservations == ()
    urls[0] = f"sqlite:///{tmp_path}/b.db"
    with open_ledger(urls[0], clock=FakeClock()) as other:
        other.submit(a_request("there"))
    ticks[0] = 16.0
    assert [each.request.request_key for each in looking.view().reservations] == ["there"]
    looking.close()


def test_a_reservation_says_until_when_it_must_be_claimed_and_that_nobody_came(
    page: Page, let_time_pass: Callable[[timedelta], None]
) -> None:
    """On its own page."""
    page.ledger.publish(a_calendar([a_pool()], hours=[2] * 48))
    left, granted = (a_request(key, claim_within=timedelta(minutes=2)) for key in ("left", "granted"))
    page.ledger.submit(left)
    let_time_pass(timedelta(minutes=3))
    page.ledger.submit(granted)
    shown = [page.get(f"/reservations/{page.ledger.find(key).id}") for key in ("left", "granted")]
    assert ["since nobody claimed it" in text for text in shown] == [True, False]
    assert ["To be claimed by" in text for text in shown] == [False, True]
