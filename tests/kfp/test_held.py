"""The program that each step inside a gang begins with: the step works on live slots of its run, or not at all."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest

from gangplan.config import present
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.types import NodeState, Reservation, ReservationState
from gangplan_kfp.support import Gang, give_back, request_from, take

pytestmark = pytest.mark.present("steps are processes, and leases of seconds end while they run")
Opened = Callable[[], Ledger]
Wish = dict[str, Any]
PATIENCE_S = 60.0
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Start]:
    """Runs a command of the shell as the step's own; whatever is left of it is killed at the end."""
    running: list[subprocess.Popen[str]] = []
    watches: list[threading.Timer] = []

    def start(gang: Gang | str, *command: str, **environment: str) -> subprocess.Popen[str]:
        text = gang if isinstance(gang, str) else gang.text()
        words = [sys.executable, "-m", "gangplan_kfp.held", "--gang", text, "--", *command]
        told = {**os.environ, **environment}
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=told))
        watches.append(threading.Timer(PATIENCE_S, running[-1].kill))
        watches[-1].start()
        return running[-1]

    yield start
    for watch, one in zip(watches, running, strict=True):
        watch.cancel()
        one.kill()
        one.communicate()


def reserved(wish: Wish, handover: str = "30s", **more: Any) -> tuple[Reservation, Gang]:
    """Reserve as the step reserve_gang does, and read what it hands on to the steps inside."""
    taken = take(
        request_from(run_id="run-1", **{**wish, **more}), timeout_seconds=5, ledger="", home="", handover=handover
    )
    return taken.reservation, Gang.read(taken.outputs().gang)


def ended(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Return how a step ended, and what it wrote."""
    written, _ = program.communicate(timeout=PATIENCE_S)
    return program.returncode, written


def until(good: Callable[[], bool]) -> None:
    """Wait until something is true, and fail when it does not come about."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not good():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def test_a_step_keeps_the_place_and_the_token_of_its_run(ledger: Opened, wish: Wish, hold: Start) -> None:
    """Two steps of one gang, also the same one run twice: one reservation, one token, each with its own exit code."""
    first, gang = reserved(wish)
    for code in (0, 3):
        ran = ended(hold(gang, "sh", "-c", f'echo "$GANGPLAN_RESERVATION $GANGPLAN_TOKEN"; exit {code}'))
        assert ran[0] == code
        assert f"{first.id} {first.token}" in ran[1].splitlines()
    with ledger() as book:
        (held,) = book.list()
    assert (held.state, held.token) == (ReservationState.GRANTED, first.token)


def test_nothing_of_it_is_secret_and_it_is_one_text(ledger_url: str, ledger: Opened, wish: Wish) -> None:
    """What steps are told is the key and how it is held; where the ledger is, only if a parameter said so."""
    _, gang = reserved(wish)
    assert (gang.key, gang.ledger, gang.handover_s, gang.real_nodes) == ("kfp/run-1/gang", "", 30.0, False)
    url = "postgresql://me:hunter2@db/x"
    with pytest.raises(InputError, match=r"ledger: .* has a password, and parameters are shown") as refused:
        take(request_from(run_id="run-2", **wish), timeout_seconds=0, ledger=url, home="")
    assert "hunter2" not in str(refused.value)


def test_a_reserve_step_leaves_the_slots_for_the_handover_only(ledger: Opened, wish: Wish) -> None:
    """A run that dies before its next step begins blocks nobody for the whole duration."""
    held, _ = reserved(wish)
    assert held.expires_at is not None
    assert held.expires_at <= present() + timedelta(seconds=30)
    assert held.request.claim_within == timedelta(seconds=30)
    with pytest.raises(InputError, match="handover: 0"):
        reserved(wish, handover="0s")


def test_a_step_that_begins_after_the_slots_went_back_asks_again(ledger: Opened, wish: Wish, hold: Start) -> None:
    """An image that took long to pull, or a run that was retried after its release: the same gang, a new grant."""
    held, gang = reserved(wish)
    give_back(run_id="run-1", name="gang", ledger="", home="")
    code, written = ended(hold(gang, "sh", "-c", 'echo "$GANGPLAN_REQUEST_KEY $GANGPLAN_TOKEN"'))
    with ledger() as book:
        again = book.find("kfp/run-1/gang#2")
    assert code == 0
    assert f"kfp/run-1/gang#2 {again.token}" in written
    assert (again.token or 0) > (held.token or 0)
    assert replace(again.request, request_key=gang.key, latest_start=held.request.latest_start) == held.request


def test_slots_that_others_have_by_now_are_waited_for_a_while_only(ledger: Opened, wish: Wish, hold: Start) -> None:
    """The step says what it waits for, then ends with the code that lets it be run again; its place in line is gone."""
    _, gang = reserved(wish)
    give_back(run_id="run-1", name="gang", ledger="", home="")
    with ledger() as book:
        book.submit(replace(request_from(run_id="other", **wish), tenant="search"))
    code, written = ended(hold(replace(gang, patience_s=1.0), "echo", "begun"))
    assert code == 75
    assert "gangplan: waiting: ETA" in written
    assert "error: kfp/run-1/gang#2: its slots did not come back within 1 s" in written
    assert "begun" not in written
    with ledger() as book:
        assert book.find("kfp/run-1/gang#2").state is ReservationState.CANCELLED


def test_a_step_that_waits_again_ends_when_it_is_told_to(ledger: Opened, wish: Wish, hold: Start) -> None:
    """A run that is terminated meanwhile leaves nothing in the line."""
    _, gang = reserved(wish)
    give_back(run_id="run-1", name="gang", ledger="", home="")
    with ledger() as book:
        book.submit(replace(request_from(run_id="other", **wish), tenant="search"))
        program = hold(gang, "echo", "begun")
        until(lambda: any(one.state is ReservationState.WAITING for one in book.list()))
        program.terminate()
        assert ended(program)[0] == 128 + signal.SIGTERM
        assert book.find("kfp/run-1/gang#2").state is ReservationState.CANCELLED


def test_a_killed_step_costs_its_handover(ledger: Opened, wish: Wish, hold: Start) -> None:
    """Nobody but the one who waits next is needed: the slots are its own as soon as the lease has ended."""
    _, gang = reserved(wish, handover="3s")
    program = hold(gang, "sh", "-c", "echo begun; exec sleep 600")
    assert program.stdout is not None
    assert "begun\n" in iter(program.stdout.readline, "")
    with ledger() as book:
        waits = book.submit(replace(request_from(run_id="other", **wish), tenant="search"))
        program.kill()
        granted = book.wait(waits.id, timeout=timedelta(seconds=PATIENCE_S))
        dead = book.find("kfp/run-1/gang")
    assert (granted.state, dead.state) == (ReservationState.GRANTED, ReservationState.EXPIRED)


def test_work_on_a_lost_node_is_stopped_and_its_retry_has_the_slots_in_place_of_them(
    ledger: Opened, wish: Wish, hold: Start
) -> None:
    """A pod that still lives there is no more the holder; the next try has another token and another node."""
    first, gang = reserved(wish, handover="6s", pods=1)
    program = hold(gang, "sh", "-c", "echo begun; exec sleep 600")
    assert program.stdout is not None
    assert "begun\n" in iter(program.stdout.readline, "")
    with ledger() as book:
        book.mark_node(first.placements[0].node, NodeState.LOST)
        code, written = ended(program)
        assert code == 75
        assert "its nodes went away; it was given h100-lab-1 in their place: run the step again" in written
        code, written = ended(hold(gang, "sh", "-c", 'echo "$GANGPLAN_NODES $GANGPLAN_TOKEN"'))
        now = book.find(gang.key)
    assert (code, now.id) == (0, first.id)
    assert f"h100-lab-1 {now.token}" in written
    assert (now.token or 0) > (first.token or 0)


@pytest.mark.parametrize(("real_nodes", "code"), [(True, 75), (False, 0)])
def test_a_step_does_not_work_beside_its_slots(
    ledger: Opened, wish: Wish, hold: Start, real_nodes: bool, code: int
) -> None:
    """Where the cluster knows the ledger's nodes, a pod on another one is told where its slots are."""
    _, gang = reserved(wish)
    ran = ended(hold(replace(gang, real_nodes=real_nodes), "true", GANGPLAN_POD_NODE="elsewhere"))
    assert ran[0] == code
    said = "error: kfp/run-1/gang: its slots are on h100-lab-0, h100-lab-1 now, and this pod is on elsewhere"
    assert (said in ran[1]) is real_nodes


def test_a_gang_that_was_never_reserved_and_a_text_that_is_none_are_named(
    ledger: Opened, wish: Wish, hold: Start
) -> None:
    """The first is refused and may be tried again, the second is a mistake of who wrote it."""
    _, gang = reserved(wish)
    code, written = ended(hold(replace(gang, key="kfp/run-9/gang"), "true"))
    assert (code, written) == (
        75,
        "error: request_key: nothing was reserved under 'kfp/run-9/gang': reserve it first\n",
    )
    code, written = ended(hold("a text", "true"))
    assert (code, written) == (2, "error: gang: 'a text' is no gang: pass the output `gang` of reserve_gang\n")
    with pytest.raises(InputError):
        Gang.read(json.dumps({**asdict(gang), "more": 1}))


def test_a_ledger_that_does_not_answer_holds_no_step_up(ledger_url: str, wish: Wish, hold: Start) -> None:
    """The command is stopped before its lease ends, and the step is over, though its last call still waits."""
    _, gang = reserved(wish, handover="4s")
    program = hold(replace(gang, ledger=f"{ledger_url}?timeout=3600"), "sh", "-c", "echo begun; exec sleep 600")
    assert program.stdout is not None
    assert "begun\n" in iter(program.stdout.readline, "")
    with sqlite3.connect(ledger_url.removeprefix("sqlite:///"), isolation_level=None) as locked:
        locked.execute("BEGIN IMMEDIATE")
        code, written = ended(program)
    assert code == 75
    assert "the ledger did not renew it" in written


def test_an_unreachable_ledger_lets_the_step_be_tried_again(wish: Wish, ledger: Opened, hold: Start) -> None:
    """The code of a step that had to leave: what is away now may be there at the next try."""
    _, gang = reserved(wish)
    code, written = ended(hold(replace(gang, ledger="sqlite:////proc/none/ledger.db"), "true"))
    assert code == 75
    assert written.startswith("error: ")
