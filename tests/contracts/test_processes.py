"""Several processes on one ledger: they share the work through a leader, and lose nothing when it dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import make_url

from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.opening import open_store
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

pytestmark = pytest.mark.present("leases end, and a dead leader is replaced, by the clock that all processes share")
ONE = (PodSet(count=1, gpus_per_pod=1),)
SOON = timedelta(seconds=20)
LEADER = """
import sys, time
from gangplan.reserve.opening import open_store
store = open_store(sys.argv[1])
store.lead()
while not store.status().leads:
    time.sleep(0.01)
print("leads", flush=True)
sys.stdin.read()
store.close()
"""
CLIENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from gangplan.reserve import open_ledger
from gangplan.testing import a_request
from gangplan.types import PodSet
def one(n):
    held = ledger.submit(a_request(f"{sys.argv[2]}-{n}", pod_sets=(PodSet(count=1, gpus_per_pod=1),)))
    return ledger.release(held.id, held.token).state.value
with open_ledger(sys.argv[1]) as ledger, ThreadPoolExecutor(8) as threads:
    assert set(threads.map(one, range(100))) == {"released"}
"""


@pytest.fixture(params=["sqlite", "postgresql", "postgresql without listening"])
def url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    """A ledger with 8 nodes x 8 GPUs, on the machine's clock."""
    kind = str(request.param).split()[0]
    made = new_url(kind)
    if made != request.param and "without" in request.param:
        made += "&listen=no"
    with open_ledger(made) as ledger:
        pool = a_pool(gpus_per_node=8, max_nodes=8)
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - timedelta(hours=1)))
    return made


@contextmanager
def leader(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that leads for good."""
    process = subprocess.Popen([sys.executable, "-c", LEADER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"leads\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def check_whole(ledger: Ledger, count: int) -> None:
    """All rows are there, each token was given once, and the log replays."""
    rows = ledger.list()
    assert len(rows) == count
    tokens = sorted(row.token for row in rows if row.token is not None)
    assert tokens == list(range(1, len(tokens) + 1))
    assert ledger.replay().different == ()


def test_processes_share_the_work(url: str) -> None:
    """Three processes of eight threads each, with nobody to lead but themselves: each call is run once."""
    clients = [subprocess.Popen([sys.executable, "-c", CLIENT, url, name]) for name in "abc"]
    assert [client.wait(timeout=60) for client in clients] == [0, 0, 0]
    with open_ledger(url) as ledger:
        check_whole(ledger, 300)


def test_a_process_that_leads_for_good_serves_the_others(url: str) -> None:
    """While it lives it has all commits; a call through it takes milliseconds, not heartbeats."""
    with leader(url) as process, open_ledger(url) as ledger:
        took: list[float] = []
        for number in range(20):
            start = time.monotonic()
            held = ledger.submit(a_request(f"k{number}", pod_sets=ONE))
            took.append(time.monotonic() - start)
            assert held.state is ReservationState.GRANTED
        assert min(took) < 0.2
        assert {event.term for event in list(ledger.audit())[1:]} == {1}
        assert process.poll() is None
        check_whole(ledger, 20)


def stop(process: subprocess.Popen[bytes], how: signal.Signals, url: str) -> None:
    """Kill or freeze a leader; freeze it between two transactions, as SQLite's lock would stay with the frozen one."""
    if how is signal.SIGKILL:
        process.kill()
        return
    _freeze(process.pid)
    while url.startswith("sqlite") and _is_locked(make_url(url).database or ""):
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.05)
        _freeze(process.pid)


def _freeze(pid: int) -> None:
    """Stop a child, and return when all its threads stand still: until then one may still take a lock."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def _is_locked(file: str) -> bool:
    """Tell whether somebody is writing to a SQLite file."""
    with closing(sqlite3.connect(file, timeout=0.2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_died_or_froze_is_replaced_within_seconds(url: str, how: signal.Signals) -> None:
    """Callers that asked it get their answers from the next; when it wakes up it changes nothing."""
    with leader(url) as process, open_ledger(url) as ledger, ThreadPoolExecutor(8) as threads:
        assert ledger.submit(a_request("before", pod_sets=ONE)).token == 1
        stop(process, how, url)
        start = time.monotonic()
        held = list(threads.map(lambda n: ledger.submit(a_request(f"k{n}", pod_sets=ONE)), range(8)))
        assert time.monotonic() - start < 8
        assert {one.state for one in held} == {ReservationState.GRANTED}
        if how is signal.SIGSTOP:
            os.kill(process.pid, signal.SIGCONT)
        ledger.submit(a_request("after", pod_sets=ONE))
        check_whole(ledger, 10)


def test_those_who_wait_are_told_across_processes(url: str) -> None:
    """A grant that another process's release makes possible reaches the one that waits, without its asking."""
    whole = (PodSet(count=8, gpus_per_pod=8),)
    with leader(url), open_ledger(url) as one, open_ledger(url) as two, ThreadPoolExecutor(1) as thread:
        first = one.submit(a_request("a", pod_sets=whole))
        second = two.submit(a_request("b", pod_sets=whole))
        waits = thread.submit(two.wait, second.id, timeout=SOON)
        assert first.token is not None
        one.release(first.id, first.token)
        assert waits.result(timeout=10).state is ReservationState.GRANTED


def test_time_alone_wakes_those_who_wait(url: str) -> None:
    """With nobody leading, the one who waits sees to it that a lease that ran out ends."""
    whole = (PodSet(count=8, gpus_per_pod=8),)
    with open_ledger(url) as ledger:
        ledger.submit(a_request("a", pod_sets=whole, duration=timedelta(seconds=1)))
        second = ledger.submit(a_request("b", pod_sets=whole))
        assert second.state is ReservationState.WAITING
        assert ledger.wait(second.id, timeout=SOON).state is ReservationState.GRANTED


def test_five_thousand_who_wait_cost_next_to_nothing(url: str) -> None:
    """While nothing happens one thread looks now and then: under 5 % of a core, in processor time."""
    whole = (PodSet(count=8, gpus_per_pod=8),)
    with open_ledger(url) as ledger:
        ledger.submit(a_request("a", pod_sets=whole, duration=timedelta(hours=5)))
        second = ledger.submit(a_request("b", pod_sets=whole))
    store, heard = open_store(url), list[int]()
    for number in range(5_000):
        store.subscribe(second.id, lambda _, number=number: heard.append(number))
    deadline = time.monotonic() + 20
    while len(heard) < 5_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(3)  # what they cost at first is over: looks become rarer
    used, start = time.process_time(), time.monotonic()
    time.sleep(2)
    assert (time.process_time() - used) / (time.monotonic() - start) < 0.05
    assert sorted(heard) == list(range(5_000))
    store.close()


def test_a_store_that_leads_says_so(url: str) -> None:
    """Its status names the leader, the term and the counts."""
    store = open_store(url)
    store.lead()
    deadline = time.monotonic() + 10
    while not store.status().leads:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert store.status().term == 1
    store.close()
