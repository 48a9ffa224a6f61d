"""What only a database server can do to a ledger: drop connections, be away, be used by many processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from gangplan.errors import KeyConflictError, UnavailableError, WaitTimeoutError
from gangplan.reserve import open_ledger
from gangplan.reserve.stores.sql import connections as sql_connections, store
from gangplan.testing import FakeClock, a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

GRANTS = (
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO client",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO client",
)
ONE = (PodSet(count=1, gpus_per_pod=1),)
CLIENT = """
import sys
from gangplan.reserve import open_ledger
from gangplan.testing import NOW, a_request
from gangplan.types import PodSet
with open_ledger(sys.argv[1], clock=lambda: NOW) as ledger:
    for n in range(20):
        held = ledger.submit(a_request(f"{sys.argv[2]}-{n}", pod_sets=(PodSet(count=1, gpus_per_pod=1),)))
        if n % 2:
            ledger.release(held.id, held.token)
"""


def test_dropped_connections_are_made_again(new_url: Callable[[str], str], postgres: str) -> None:
    """After the server ended every connection, the next call works and nothing is lost."""
    with open_ledger(new_url("postgresql"), clock=FakeClock()) as ledger:
        ledger.publish(a_calendar())
        first = ledger.submit(a_request("a"))
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert ledger.submit(a_request("b")).state is ReservationState.WAITING
        assert ledger.get(first.id) == first


def connections(server: str, url: str) -> int:
    """Return how many connections there are to a ledger."""
    with psycopg.connect(server) as asked:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        row = asked.execute(query, [make_url(url).database]).fetchone()
    assert row is not None
    return int(row[0])


def wait_for(good: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 60
    while not good():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.present("nobody uses a connection for a while of the machine's time")
def test_who_makes_no_call_has_no_connection(
    new_url: Callable[[str], str], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after it has waited for a grant: hundreds of steps may hold slots, and a server serves a hundred."""
    monkeypatch.setattr(sql_connections, "IDLE_S", 0.5)
    url = new_url("postgresql")
    with open_ledger(url) as ledger:
        ledger.publish(a_calendar(start=datetime.now(UTC) - timedelta(minutes=1)))
        held = ledger.submit(a_request("holds"))
        waits = ledger.submit(a_request("waits"))
        assert connections(postgres, url) == 1
        with pytest.raises(WaitTimeoutError):
            ledger.wait(waits.id, timeout=timedelta(seconds=0.2))
        wait_for(lambda: connections(postgres, url) == 0, "a connection stayed")
        assert held.token is not None
        assert ledger.renew(held.id, held.token).token == held.token


def take_all(server: str, taken: ExitStack, most: int = 1000) -> None:
    """Take connections of a server until there is none any more, or so many."""
    with suppress(psycopg.OperationalError):
        for _ in range(most):
            taken.enter_context(psycopg.connect(server))


@pytest.mark.present("the server is asked again by the machine's clock")
def test_a_server_with_no_connection_to_spare_is_waited_for(new_url: Callable[[str], str], postgres: str) -> None:
    """A call goes on as soon as there is one; after its patience the server is unavailable."""
    url = new_url("postgresql")
    with ExitStack() as taken:
        take_all(postgres, taken)
        with pytest.raises(UnavailableError, match="too many clients"):
            open_ledger(f"{url}&timeout=0.1")
        with ThreadPoolExecutor(1) as threads:
            opened = threads.submit(open_ledger, url)
            wait_for(opened.running, "the call did not begin")
            taken.close()
            opened.result().close()


@pytest.mark.present("who waits looks by the machine's clock")
def test_on_a_crowded_server_who_waits_keeps_no_connection(
    new_url: Callable[[str], str], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks now and then, and hears of its grant all the same."""
    monkeypatch.setattr(store, "_SELDOM", 1.0)
    url = new_url("postgresql")
    with open_ledger(url) as one, open_ledger(url) as other, ExitStack() as taken, ThreadPoolExecutor(1) as threads:
        one.publish(a_calendar(start=datetime.now(UTC) - timedelta(minutes=1)))
        held = one.submit(a_request("holds"))
        waits = one.submit(a_request("waits"))
        take_all(postgres, taken, 85)
        granted = threads.submit(one.wait, waits.id, timeout=timedelta(minutes=1))
        wait_for(lambda: connections(postgres, url) == 0, "a connection stayed")
        assert not granted.done()
        assert held.token is not None
        other.release(held.id, held.token)
        assert granted.result().state is ReservationState.GRANTED


def test_a_server_that_is_away_is_unavailable_and_its_password_unsaid() -> None:
    """The error is one line, says try again, and keeps the password to itself."""
    with pytest.raises(UnavailableError, match="try again") as caught:
        open_ledger("postgresql://user:secret@127.0.0.1:1/ledger")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_share_a_ledger(new_url: Callable[[str], str], kind: str) -> None:
    """Three processes grant and release at once: all rows are there, each token once, no node carries too much."""
    url = new_url(kind)
    with open_ledger(url, clock=FakeClock()) as ledger:
        ledger.publish(a_calendar([a_pool(max_nodes=8)]))
        clients = [subprocess.Popen([sys.executable, "-c", CLIENT, url, name]) for name in "abc"]
        assert [client.wait(timeout=60) for client in clients] == [0, 0, 0]
        rows = ledger.list()
        free = [c.free_gpus for c in ledger.calendar(FakeClock().now, rows[0].submitted_at + rows[0].request.duration)]
    assert len(rows) == 60
    assert sorted(row.token or 0 for row in rows) == list(range(1, 61))
    assert free == [2]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_threads_share_an_open_ledger(new_url: Callable[[str], str], kind: str) -> None:
    """Calls of many threads are each answered with their own row; a refused one among them refuses itself alone."""
    with open_ledger(new_url(kind), clock=FakeClock()) as ledger, ThreadPoolExecutor(16) as threads:
        ledger.publish(a_calendar([a_pool(max_nodes=100)]))
        ledger.submit(a_request("k3", priority=7))

        def call(n: int) -> str:
            try:
                return ledger.submit(a_request(f"k{n}", pod_sets=ONE)).request.request_key
            except KeyConflictError:
                return "refused"

        answers = list(threads.map(call, range(200)))
    assert answers == [f"k{n}" if n != 3 else "refused" for n in range(200)]


def test_the_role_of_the_clients_needs_no_right_to_make_tables(new_url: Callable[[str], str], postgres: str) -> None:
    """The rights in docs/airflow-platform.md are enough to reserve, wait and release once the owner made the tables."""
    url = new_url("postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE client LOGIN PASSWORD 'client'")
        for line in GRANTS:
            connection.execute(line)
    theirs = make_url(url).set(username="client", password="client")  # noqa: S106
    with open_ledger(url, clock=FakeClock()) as owner:
        owner.publish(a_calendar())
    with open_ledger(theirs.render_as_string(hide_password=False), clock=FakeClock()) as ledger:
        first, second = ledger.submit(a_request("a")), ledger.submit(a_request("b"))
        assert second.state is ReservationState.WAITING
        assert first.token is not None
        ledger.release(first.id, first.token)
        assert ledger.get(second.id).state is ReservationState.GRANTED
