"""Acceptance on a real Kubeflow Pipelines, which GANGPLAN_KFP_HOST names: docs/kfp-client.md says what else to set."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from tests.command import Call, caller

from gangplan.config import load_settings
from gangplan.reserve import OperableLedger, open_ledger
from gangplan.types import Reservation, ReservationState
from gangplan_kfp.client import Server, connect, find_run, gangs

HOST = os.environ.get("GANGPLAN_KFP_HOST", "")
ARGUMENTS = [word for each in shlex.split(os.environ.get("GANGPLAN_KFP_ARGUMENTS", "")) for word in ("--set", each)]
PATIENCE = timedelta(minutes=20)
"""How long a real cluster may take to start pods and to train."""

pytestmark = [
    pytest.mark.skipif(not HOST, reason="GANGPLAN_KFP_HOST names no Kubeflow Pipelines"),
    pytest.mark.present("a real Kubeflow Pipelines and its pods live at the present"),
]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command."""
    return caller(monkeypatch, capsys)


@pytest.fixture
def server() -> Server:
    """The real server."""
    return connect(HOST)


@pytest.fixture
def ledger() -> Iterator[OperableLedger]:
    """The ledger of the steps, as this machine reaches it."""
    with open_ledger(load_settings().ledger_url) as book:
        yield book


def submit(call: Call, *words: str) -> str:
    """Send the pipeline that reserves, trains and plans; return the run's id."""
    said = call(
        "kfp", "submit", "reserved_training", *ARGUMENTS, "--run-name", f"acceptance {uuid4()}", "--json", *words
    )
    assert said.code == 0, said
    return json.loads(said.out)["id"]


def until(condition: Callable[[], bool], within: timedelta) -> float:
    """Wait for a condition; return the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < within.total_seconds(), f"not within {within}"
        time.sleep(1)
    return time.monotonic() - begin


def held(ledger: OperableLedger, run: str) -> list[Reservation]:
    """What a run holds or waits for now."""
    ledger.tick()
    return [gang for gang in gangs(ledger, run).get(run, ()) if not gang.state.final]


def test_the_doctor_finds_the_server(call: Call) -> None:
    """It answers, and is of a version that was tried."""
    found = {each["what"]: each for each in call("kfp", "doctor", "--json").json}
    assert found["KFP server"]["level"] == "good"


def test_a_run_reserves_trains_and_gives_back(call: Call, ledger: OperableLedger) -> None:
    """The pipeline that ships runs to its end, and holds nothing then."""
    run = submit(call, "--wait")
    assert [gang.state for gang in gangs(ledger, run)[run]] == [ReservationState.RELEASED]


def test_slots_of_a_terminated_run_are_free_within_a_minute(call: Call, server: Server, ledger: OperableLedger) -> None:
    """KFP leaves the exit task out when a run is terminated: the lease ends without it."""
    run = submit(call)
    until(lambda: any(gang.state is ReservationState.GRANTED for gang in held(ledger, run)), PATIENCE)
    server.terminate(run)
    until(lambda: not held(ledger, run), timedelta(seconds=60))
    until(lambda: find_run(server, run).over, PATIENCE)


def test_a_schedule_is_made_once(call: Call) -> None:
    """KFP takes what is sent; the same call changes nothing."""
    name = f"acceptance-{uuid4()}"
    words = ("kfp", "schedule", "reserved_training", *ARGUMENTS, "--cron", "0 3 1 1 *", "--name", name, "--disable")
    try:
        assert [call(*words, "--json").json["done"] for _ in range(2)] == ["made", "unchanged"]
    finally:
        assert call("kfp", "schedule", "--name", name, "--delete").code == 0
