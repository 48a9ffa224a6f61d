"""A command on held slots: its lease lives as long as it does, and never the other way round."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gangplan.client.pods import rendezvous_of
from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.reserve import Ledger, Policy, Preemption, open_ledger
from gangplan.testing import NOW, a_calendar, a_request
from gangplan.types import Placement, PodSet, Reservation, ReservationId, ReservationState

pytestmark = pytest.mark.present("commands are processes, and leases of seconds end while they run")
PATIENCE_S = 60.0
LONG = 30.0
OFTEN = timedelta(seconds=1)
"""A holder looks twice as often as its request's checkpoint."""

PROGRAM = """
import sys
from datetime import timedelta
from gangplan import client
process = client.prepare(sys.argv[4:])
from gangplan.reserve import open_ledger
with open_ledger(sys.argv[1]) as ledger:
    mine = ledger.get(sys.argv[2])
    sys.exit(client.run_held(ledger, mine, process, ttl=timedelta(seconds=float(sys.argv[3])), pod_node="h100-owned-1"))
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger that gives up at once what it cannot lock."""
    return f"sqlite:///{tmp_path / 'ledger.db'}?timeout=1"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """The same ledger, opened by the test, with two nodes of four GPUs."""
    with open_ledger(url) as ledger:
        ledger.publish(a_calendar(start=floor_hour(present())))
        rules = Preemption(notice=timedelta(minutes=5), grace=timedelta(0))
        ledger.set_policy(Policy(preemption=rules), by="ada", why="urgent work goes first")
        yield ledger


@pytest.fixture
def mine(ledger: Ledger) -> Reservation:
    """All that there is, held for an hour if nobody renews it."""
    return ledger.submit(a_request("mine", priority=1, preemptible=True, checkpoint=OFTEN))


@pytest.fixture
def hold(url: str, mine: Reservation) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs a command of the shell on the slots; whatever is left of it is killed at the end."""
    running: list[subprocess.Popen[str]] = []
    watches: list[threading.Timer] = []

    def start(*command: str, ttl: float = LONG) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", PROGRAM, url, mine.id, str(ttl), *command]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        watches.append(threading.Timer(PATIENCE_S, running[-1].kill))
        watches[-1].start()
        return running[-1]

    yield start
    for watch, one in zip(watches, running, strict=True):
        watch.cancel()
        one.kill()
        one.communicate()


def until(good: Callable[[], bool]) -> None:
    """Wait until something is true, and fail when it does not come about."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not good():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def begun(program: subprocess.Popen[str]) -> str:
    """Return the first line that a command writes."""
    assert program.stdout is not None
    return program.stdout.readline().strip()


def ended(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Return how a program ended, and the rest of what it wrote."""
    written, _ = program.communicate(timeout=PATIENCE_S)
    return program.returncode, written


def test_a_command_knows_its_slots_and_leaves_them_to_the_next(
    ledger: Ledger, mine: Reservation, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """Its exit code is the program's, and its slots are kept for the renewal's time, no longer."""
    code, written = ended(hold("sh", "-c", 'echo "$GANGPLAN_TOKEN $GANGPLAN_NODES $NNODES $NODE_RANK"; exit 3'))
    assert (code, written.splitlines()) == (3, [f"{mine.token} h100-owned-0,h100-owned-1 2 1"])
    after = ledger.get(mine.id)
    assert after.state is ReservationState.GRANTED
    assert after.expires_at is not None
    assert after.expires_at <= present() + timedelta(seconds=LONG)


@pytest.mark.skipif(sys.platform != "linux", reason="process groups are looked at in /proc")
def test_what_a_shell_has_started_ends_in_peace(hold: Callable[..., subprocess.Popen[str]]) -> None:
    """The shell dies of the signal at once; the program that it waits for is given the time to save."""
    saves = "trap 'sleep 1; echo saved; exit 0' TERM; echo begun; while :; do sleep 0.05; done"
    program = hold("sh", "-c", f'sh -c "{saves}"; echo never', ttl=LONG)
    begun(program)
    program.send_signal(signal.SIGTERM)
    assert ended(program) == (128 + signal.SIGTERM, "saved\n")


def test_signals_go_on_to_the_command(hold: Callable[..., subprocess.Popen[str]]) -> None:
    """One that is asked to end may save first; one that a signal ends is told by its number."""
    program = hold("sh", "-c", "trap 'echo saved; exit 7' TERM; echo begun; while :; do sleep 0.05; done")
    begun(program)
    program.terminate()
    code, written = ended(program)
    assert (code, written.splitlines()[-1]) == (7, "saved")
    assert ended(hold("sh", "-c", "kill -9 $$"))[0] == 128 + signal.SIGKILL


def test_a_command_that_cannot_be_run_is_named(hold: Callable[..., subprocess.Popen[str]]) -> None:
    """As a shell would say it."""
    assert ended(hold("no-such-command")) == (127, "error: no-such-command: cannot be run: No such file or directory\n")


def test_work_on_lost_slots_is_stopped_by_force_if_need_be(
    ledger: Ledger, mine: Reservation, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """Also what it started itself; the code says to run it again, and the log says why."""
    work = "trap '' TERM; sh -c \"trap '' TERM; sleep 600\" & echo $!; while :; do sleep 0.05; done"
    program = hold("sh", "-c", work, ttl=5)
    child = int(begun(program))
    ledger.cancel(mine.id)
    code, written = ended(program)
    assert code == 75
    assert f"gangplan: the command is stopped: reservation {mine.id}: the lease was lost" in written
    assert "it was cancelled" in written
    until(lambda: not alive(child))


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_ledger_that_stays_away_stops_the_work_before_its_lease_ends(
    ledger: Ledger, mine: Reservation, url: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """Nobody else can have had the slots by then, whatever the ledger does meanwhile."""
    program = hold("sh", "-c", "trap 'date +%s; exit' TERM; echo begun; while :; do sleep 0.05; done", ttl=4)
    begun(program)
    with sqlite3.connect(url.removeprefix("sqlite:///").partition("?")[0], isolation_level=None) as locked:
        locked.execute("BEGIN IMMEDIATE")
        until(lambda: program.poll() is not None)
        (kept,) = ledger.history()
        locked.execute("ROLLBACK")
    code, written = ended(program)
    assert code == 75
    assert "the ledger did not renew it" in written
    assert kept.expires_at is not None
    (stopped,) = [int(line) for line in written.splitlines() if line.isdigit()]
    assert stopped <= kept.expires_at.timestamp()


def test_the_command_does_not_outlive_its_holder_and_the_next_one_gets_the_slots(
    ledger: Ledger, mine: Reservation, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """A holder that was killed renews nothing: after the renewal's time whoever waits has the slots."""
    program = hold("sh", "-c", "echo $$; exec sleep 600", ttl=3)
    command = int(begun(program))
    waits = ledger.submit(a_request("next", tenant="search", priority=1))
    program.kill()
    killed = present()
    until(lambda: not alive(command))
    granted = ledger.wait(waits.id, timeout=timedelta(seconds=PATIENCE_S))
    assert granted.granted_at is not None
    assert granted.granted_at <= killed + timedelta(seconds=3) + timedelta(seconds=PATIENCE_S)
    assert ledger.get(mine.id).state is ReservationState.EXPIRED


def test_a_notice_is_a_file_and_goes_away_with_its_cause(
    ledger: Ledger, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """A command reads by when and for whom it must leave; one that leaves with 75 is told so as it stands."""
    look = 'while [ ! -e "$GANGPLAN_NOTICE" ]; do sleep 0.05; done; cat "$GANGPLAN_NOTICE"; echo'
    gone = 'while [ -e "$GANGPLAN_NOTICE" ]; do sleep 0.05; done; echo gone'
    program = hold("sh", "-c", f"echo begun; {look}; {gone}; {look}; exit 75")
    begun(program)
    first = ledger.submit(a_request("first", priority=200))
    assert program.stdout is not None
    lines = iter(program.stdout.readline, "")
    told = json.loads(next(line for line in lines if line.startswith("{")))
    assert (told["by"], told["why"]) == ("first", "vision first (priority 200) needs its slots")
    assert told["until"] == first.eta.isoformat() if first.eta else ""
    ledger.cancel(first.id)
    assert "gone\n" in lines
    ledger.submit(a_request("second", priority=200))
    assert ended(program)[0] == 75


def test_a_command_whose_holder_never_started_it_ends() -> None:
    """A holder that found no slots just ends; its command has never begun."""
    code = "import os; from gangplan import client; client.prepare(['echo', 'begun']); print(os.getpid(), flush=True)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ran.stdout.split() == [ran.stdout.strip()]


@pytest.mark.parametrize(
    ("pods", "nodes", "on", "found"),
    [
        (1, ["a"], "a", {"MASTER_ADDR": "127.0.0.1", "NNODES": "1", "NODE_RANK": "0"}),
        (2, ["b", "a"], "a", {"MASTER_ADDR": "b", "NNODES": "2", "NODE_RANK": "1"}),
        (2, ["b", "a"], "", {"MASTER_ADDR": "b", "NNODES": "2"}),
        (2, [""], "a", {"NNODES": "2"}),
        (4, ["b", "a"], "a", {"MASTER_ADDR": "b", "NNODES": "4"}),
    ],
)
def test_pods_find_one_another_as_far_as_is_known(pods: int, nodes: list[str], on: str, found: dict[str, str]) -> None:
    """A rank is given where each node has one pod, and none is guessed."""
    each = pods // len(nodes)
    held = Reservation(
        id=ReservationId("one"),
        request=a_request(pod_sets=(PodSet(count=pods, gpus_per_pod=1),)),
        state=ReservationState.GRANTED,
        submitted_at=NOW,
        placements=tuple(Placement(pool="h100", node=node, pods=each, gpus=each) for node in nodes),
    )
    assert rendezvous_of(held, on) == {"MASTER_PORT": "29500", **found}
