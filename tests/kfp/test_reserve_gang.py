"""The step reserve_gang, run by KFP's local runner against the ledger's file: once, bounded, and with its reason."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gangplan import steps
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.types import Reservation, ReservationState
from gangplan_kfp import holding, release_gang, reserve_gang

Opened = Callable[[], Ledger]
Wish = dict[str, Any]
Capture = pytest.CaptureFixture[str]


def when_waiting(opened: Opened, key: str, act: Callable[[Ledger], object]) -> threading.Thread:
    """Start a thread that acts on the ledger once the request of that key stands in line."""

    looking = threading.Event()  # never set: the steps are other processes, so that the ledger is looked at, gently

    def watch() -> None:
        with opened() as ledger:
            while not any(r.request.request_key == key for r in ledger.list(ReservationState.WAITING)):
                looking.wait(0.05)
            act(ledger)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def said(capfd: Capture) -> list[str]:
    """Return the lines of the steps' logs; the local runner indents them."""
    return [line.strip() for line in capfd.readouterr().out.splitlines()]


def test_grants_the_whole_gang_and_hands_on_where(ledger: Opened, wish: Wish, runs: Path) -> None:
    """A free lab is granted at once; the next step learns pool and nodes, and a person reads a page."""
    task = reserve_gang(run_id="run-1", **wish)
    with ledger() as book:
        found = book.find("kfp/run-1/gang")
    assert found.state is ReservationState.GRANTED
    assert task.outputs["reservation_id"] == found.id
    assert task.outputs["token"] == found.token
    assert task.outputs["pool"] == "h100-lab"
    assert sorted(task.outputs["nodes"]) == sorted(placement.node for placement in found.placements)
    page = Path(task.outputs["reservation"].path).read_text()
    assert page.startswith("# 8 GPUs for vision: granted")
    assert "kfp/run-1/gang" in page


def test_a_step_that_runs_twice_holds_one_gang(ledger: Opened, wish: Wish, runs: Path) -> None:
    """Kubernetes runs a lost pod again: the second run gets the first one's reservation, token and all."""
    first, second = (reserve_gang(run_id="run-1", **wish).outputs for _ in range(2))
    assert (second["reservation_id"], second["token"]) == (first["reservation_id"], first["token"])
    with ledger() as book:
        assert len(book.list()) == 1


def test_says_why_it_waits_then_gives_up_in_one_line(
    held: Reservation, ledger: Opened, wish: Wish, runs: Path, capfd: Capture
) -> None:
    """A second gang says what holds it and its ETA; when its patience ends the step fails with one line."""
    with pytest.raises(RuntimeError, match="reserve-gang"):
        reserve_gang(run_id="run-2", timeout_seconds=1, **wish)
    log = said(capfd)
    (error,) = [line for line in log if line.startswith("error: ")]
    assert "timeout_seconds: 8 GPUs of h100-lab did not come within 1 s" in error
    assert not any("Traceback" in line for line in log)
    waiting = next(line for line in log if line.startswith("waiting"))
    assert held.expires_at is not None
    assert f"ETA {held.expires_at:%Y-%m-%d %H:%M:%S} UTC, after this step's patience ends" in waiting
    assert waiting in error
    with ledger() as book:
        assert book.find("kfp/run-2/gang").state is ReservationState.CANCELLED


def test_gets_the_slots_when_they_come_free(
    held: Reservation, ledger: Opened, wish: Wish, runs: Path, capfd: Capture
) -> None:
    """The waiting step goes on when the holder releases, and its page keeps what it waited for."""
    assert held.token is not None
    other = when_waiting(ledger, "kfp/run-2/gang", lambda book: book.release(held.id, held.token))
    task = reserve_gang(run_id="run-2", timeout_seconds=60, **wish)
    other.join(10)
    states = [line.split(":")[0] for line in said(capfd)]
    assert states.index("waiting") < states.index("granted")
    assert "waiting: " in Path(task.outputs["reservation"].path).read_text()


def test_a_killed_step_keeps_its_place_for_a_while(
    held: Reservation, ledger: Opened, ledger_url: str, wish: Wish, runs: Path
) -> None:
    """A step killed while it waits, and run again, gets what it first asked for; not run again, it soon expires."""
    code = (
        "from gangplan_kfp import holding\n"
        f"request = holding.request_from(run_id='run-3', **{wish!r})\n"
        f"holding.take(request, timeout_seconds=60, ledger={ledger_url!r}, home='')\n"
    )
    step = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    when_waiting(ledger, "kfp/run-3/gang", lambda book: step.kill()).join(60)
    assert step.wait(10) == -signal.SIGKILL
    with ledger() as book:
        left = book.find("kfp/run-3/gang")
        assert left.state is ReservationState.WAITING
        assert left.request.latest_start is not None
        assert left.request.latest_start <= left.submitted_at + timedelta(seconds=60) + steps.ABANDONED_AFTER
        assert held.token is not None
        book.release(held.id, held.token)
    again = reserve_gang(run_id="run-3", timeout_seconds=60, **wish)
    assert again.outputs["reservation_id"] == left.id


def test_a_retried_run_reserves_anew(ledger: Opened, wish: Wish, runs: Path) -> None:
    """A run keeps its id when a user retries it: its released reservation stays ended, and it gets another."""
    first = reserve_gang(run_id="run-5", **wish).outputs
    release_gang(run_id="run-5")
    second = reserve_gang(run_id="run-5", **wish).outputs
    assert second["token"] > first["token"]
    release_gang(run_id="run-5")
    with ledger() as book:
        assert [found.state for found in book.list()] == [ReservationState.RELEASED] * 2


def test_wrong_parameter_is_one_line_and_writes_nothing(home: Path, wish: Wish, runs: Path, capfd: Capture) -> None:
    """A count of nought ends the step with the field, the value and the remedy; not even a ledger was made."""
    with pytest.raises(RuntimeError, match="reserve-gang"):
        reserve_gang(run_id="run-6", **{**wish, "pods": 0})
    log = said(capfd)
    assert "error: pods: 0 must be a number of at least 1" in log
    assert not any("Traceback" in line for line in log)
    assert not home.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "{{$.pipeline_job_uuid}}"),
        ("run_id", ""),
        ("name", "a/b"),
        ("tenant", "no tenant"),
        ("accelerators", []),
        ("pods", -1),
        ("gpus_per_pod", 0),
        ("duration", "0s"),
        ("duration", "soon"),
        ("workload_class", "fast"),
    ],
)
def test_wrong_parameter_is_named(wish: Wish, field: str, value: object) -> None:
    """Each wrong parameter is refused under the name that the pipeline's author gave it."""
    with pytest.raises(InputError) as refused:
        holding.request_from(**{"run_id": "run-7", **wish, field: value})
    assert refused.value.field == field


def test_wrong_patience_is_named(home: Path, wish: Wish) -> None:
    """A negative wait is refused before the ledger is touched."""
    request = holding.request_from(run_id="run-8", **wish)
    with pytest.raises(InputError) as refused:
        holding.take(request, timeout_seconds=-1, ledger="", home="")
    assert refused.value.field == "timeout_seconds"
    assert not home.exists()
