"""`gangplan ledger`: lead it, see who leads, read and replay its log, throw its past away."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.reserve import open_ledger
from gangplan.testing import a_calendar, a_request


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder whose ledger has one gang that was released and one that holds."""
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.publish(a_calendar(start=floor_hour(present())))
        first = ledger.submit(a_request("first"))
        ledger.cancel(first.id)
        ledger.submit(a_request("second"))
    return tmp_path


def command(home: Path, *words: str) -> list[str]:
    """Return the words of a call of the command."""
    return [sys.executable, "-m", "gangplan", "--home", str(home), "ledger", *words]


def call(home: Path, *words: str, code: int = 0) -> str:
    """Run the command and return what it said."""
    there = {**os.environ, "COLUMNS": "160", "GANGPLAN_LEDGER": f"sqlite:///{home / 'ledger.db'}"}
    ran = subprocess.run(command(home, *words), env=there, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


def said(home: Path, *words: str) -> Any:
    """Run the command and return its JSON."""
    return json.loads(call(home, *words, "--json"))


def test_the_log_of_one_key_and_of_all(home: Path) -> None:
    """Each change names its commands and what came out different."""
    events = said(home, "audit", "--key", "first")
    assert [[one["name"] for one in event["commands"]] for event in events] == [["submit"], ["cancel"]]
    assert len(said(home, "audit")) == 4
    assert said(home, "audit", "--since", "2990-01-01T00:00:00Z") == []
    assert "state=cancelled" in call(home, "audit")


def test_replay_verifies_and_finds_damage(home: Path) -> None:
    """A ledger whose rows are as its log says passes; one whose row somebody changed by hand does not."""
    assert said(home, "replay") == {"changes": 4, "reservations": 2, "different": []}
    assert "the same as the log says" in call(home, "replay")
    with sqlite3.connect(home / "ledger.db") as file:
        file.execute("UPDATE gangplan_reservations SET token = 7 WHERE request_key = 'second'")
    assert "1 reservations differ" in call(home, "replay", code=1)


def test_compact_forgets_what_ended(home: Path, now: datetime, move_clock: Callable[[datetime], None]) -> None:
    """What ended earlier than so long ago is gone, what holds stays, and the log replays."""
    move_clock(now + timedelta(minutes=1))
    assert said(home, "compact", "--older-than", "1h") == {"reservations": 0, "changes": 0}
    assert said(home, "compact", "--older-than", "0s")["reservations"] == 1
    assert said(home, "replay")["different"] == []
    assert "older-than" in call(home, "compact", "--older-than", "long", code=2)


def test_a_moment_is_refused_for_a_server(home: Path) -> None:
    """A server ends leases, so that it may not work as of another moment than the present."""
    there = {**os.environ, "GANGPLAN_NOW": "2030-01-01T00:00:00Z"}
    ran = subprocess.run(command(home, "serve"), env=there, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "now: '2030-01-01T00:00:00+00:00' cannot be given to gangplan ledger serve" in ran.stderr


@pytest.mark.present("a ledger is served at the present")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_leads_and_stops_cleanly(home: Path, how: signal.Signals) -> None:
    """It says what it does, leads until it is asked to stop, more than once, and leaves the seat empty."""
    there = {**os.environ, "GANGPLAN_LEDGER": f"sqlite:///{home / 'ledger.db'}", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command(home, "serve", "--every", "0.2s"), env=there, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "leads sqlite:///" in process.stdout.readline()
    deadline = time.monotonic() + 20
    while said(home, "status")["leader"] is None:
        assert time.monotonic() < deadline
    for _ in range(5):
        process.send_signal(how)
        time.sleep(0.005)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "leads, term 1: " in rest
    assert "stopped" in rest
    assert said(home, "status") == {
        "leader": None, "term": 1, "change": 4, "inbox": 0, "states": {"cancelled": 1, "granted": 1}
    }  # fmt: skip
