"""The step reserve_gang, run by KFP's local runner against the ledger's file: once, bounded, and with its reason."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from gangplan.client import attempts
from gangplan.config import present
from gangplan.errors import InputError, Refusal
from gangplan.reserve import Ledger
from gangplan.types import GangRequest, Level, NodeState, PodSet, Reservation, ReservationState, Topology
from gangplan_kfp.components import release_gang, reserve_gang, wait_for_gang
from gangplan_kfp.support import Gang, holding

pytestmark = pytest.mark.present("a step waits in a process of its own, and its wait has to end")
Opened = Callable[[], Ledger]
Wish = dict[str, Any]
Capture = pytest.CaptureFixture[str]


def when_waiting(opened: Opened, key: str, act: Callable[[Ledger], object], state: str = "waiting") -> threading.Thread:
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


def test_hands_on_how_steps_hold_the_gang_and_where_they_run(ledger: Opened, wish: Wish, runs: Path) -> None:
    """A pod gets the slots' resource; nodes only where a label of the cluster's nodes has the ledger's names."""
    blind = reserve_gang(run_id="run-1", **wish).outputs
    assert (blind["node_affinity"], blind["node_selector"]) == ({}, {})
    assert [one["key"] for one in blind["tolerations"]] == ["nvidia.com/gpu"]
    assert (blind["accelerator"], blind["accelerators_per_pod"]) == ("nvidia.com/gpu", "4")
    assert Gang.read(blind["gang"]).key == "kfp/run-1/gang"
    seeing = reserve_gang(run_id="run-1", node_label="example.com/node", **wish).outputs
    (term,) = seeing["node_affinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "example.com/node", "operator": "In", "values": ["h100-lab-0", "h100-lab-1"]}
    ]
    assert not Gang.read(seeing["gang"]).real_nodes


def test_parts_of_one_name_are_gangs_of_their_own(ledger: Opened, ledger_url: str, wish: Wish) -> None:
    """The items of a loop hold and release apart, whatever they look like; the same one twice is one gang."""
    where = {"ledger": ledger_url, "home": ""}
    first, long = "lr=0.1/batch 8", "x" * 500

    def take(part: str) -> Reservation:
        request = holding.request_from(run_id="run-1", part=part, **{**wish, "pods": 1})
        return holding.take(request, timeout_seconds=5, **where).reservation

    one, other, again = take(first), take(long), take(first)
    assert one.id == again.id != other.id
    assert holding.give_back(run_id="run-1", name="gang", **where) == "none"
    assert holding.give_back(run_id="run-1", name="gang", part=first, **where) == "released"
    with ledger() as book:
        assert book.get(other.id).state is ReservationState.GRANTED
        owners = [found.attempt.rpartition("/")[0] for found in book.list(owner="kfp/run-1")]
    assert (one.request.request_key, owners[0]) == ("kfp/run-1/gang/lr%3D0.1%2Fbatch%208",) * 2
    assert len(other.request.request_key) < 160


def test_a_place_in_line_is_taken_first_and_waited_for_later(
    held: Reservation, ledger: Opened, wish: Wish, runs: Path
) -> None:
    """What comes between, such as data that is staged, costs no place; the second step gives what the first would."""
    first = reserve_gang(run_id="run-2", wait=False, handover="50s", **wish).outputs
    assert (first["token"], first["nodes"], first["accelerator"]) == (0, [], "")
    with ledger() as book:
        waiting = book.get(first["reservation_id"])
        assert waiting.state is ReservationState.WAITING
        assert held.token is not None
        book.release(held.id, held.token)
    then = wait_for_gang(run_id="run-2", timeout_seconds=60, handover="50s").outputs
    assert then["reservation_id"] == first["reservation_id"]
    assert (len(then["nodes"]), then["accelerator"]) == (2, "nvidia.com/gpu")
    assert Gang.read(then["gang"]) == Gang.read(first["gang"])
    with ledger() as book:
        found = book.get(first["reservation_id"])
    assert found.expires_at is not None
    assert found.expires_at <= present() + timedelta(seconds=50)


def test_a_retried_run_waits_for_what_its_wait_step_asks_for_anew(ledger: Opened, ledger_url: str, wish: Wish) -> None:
    """The step that took the place has succeeded and does not run again; its gang was given back."""
    run = {"run_id": "run-3", "ledger": ledger_url, "home": ""}
    request = holding.request_from(run_id="run-3", **wish)
    holding.take(request, timeout_seconds=5, wait=False, ledger=ledger_url, home="")
    holding.give_back(name="gang", **run)
    again = holding.wait_on(name="gang", part="", timeout_seconds=0, **run).reservation
    assert again.request.request_key == "kfp/run-3/gang#2"


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
        "from gangplan_kfp.support import holding\n"
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
        assert left.request.latest_start <= left.submitted_at + timedelta(seconds=60) + attempts.ABANDONED_AFTER
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
    assert "error: pods: 0 must be a whole number of at least 1 and at most 1000000" in log
    assert not any("Traceback" in line for line in log)
    assert not home.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "{{$.pipeline_job_uuid}}"),
        ("run_id", ""),
        ("run_id", "a/b"),
        ("name", "a/b"),
        ("part", "{{channel:task=;name=x;type=String;}}"),
        ("tenant", "no tenant"),
        ("accelerators", []),
        ("pods", -1),
        ("gpus_per_pod", 0),
        ("duration", "0s"),
        ("duration", "soon"),
        ("workload_class", "fast"),
        ("min_pods", 3),
        ("min_pods", -1),
        ("max_pods", 1),
        ("walltime", "1m"),
        ("walltime", "long"),
        ("priority_class", "a b"),
        ("topology", "row"),
        ("speed", "h100-lab"),
        ("speed", "h100-lab=fast"),
        ("speed", "h100-lab=2,h100-lab=3"),
        ("speed[b200]", "b200=2"),
        ("slot", "a part"),
        ("deadline", "tomorrow"),
        ("deadline", "2030-03-01T12:00:00"),
        ("checkpoint", "soon"),
    ],
)
def test_wrong_parameter_is_named(wish: Wish, field: str, value: object) -> None:
    """Each wrong parameter is refused under the name that the pipeline's author gave it."""
    with pytest.raises(InputError) as refused:
        holding.request_from(**{"run_id": "run-7", **wish, field.partition("[")[0]: value})
    assert refused.value.field == field


def test_each_field_of_a_request_is_a_parameter() -> None:
    """The component's parameters about the gang are the request's fields, but for what a run's step has no use for."""
    key, pods = {"run_id", "name", "part"}, {"pods", "gpus_per_pod", "min_pods", "max_pods"}
    left_out = {"earliest_start", "latest_start", "labels", "claim_within"}
    asked = set(signature(holding.request_from).parameters)
    assert asked - key - pods == set(GangRequest.__dataclass_fields__) - {"request_key", "pod_sets"} - left_out
    assert asked <= set(signature(reserve_gang.python_func).parameters)


def test_every_wish_is_read(wish: Wish) -> None:
    """The component's texts and numbers become the request's fields."""
    assert holding.request_from(
        **wish,
        run_id="run-9",
        min_pods=1,
        max_pods=4,
        walltime="2h",
        priority_class="high",
        topology="rack:preferred",
        speed="h100-lab=2",
        slot="1/4",
        deadline="2030-03-01T12:00:00Z",
        preemptible=True,
        checkpoint="5m",
    ) == GangRequest(
        request_key="kfp/run-9/gang",
        tenant="vision",
        pod_sets=(PodSet(count=2, gpus_per_pod=4, min_count=1, max_count=4),),
        accelerators=("h100-lab",),
        duration=timedelta(minutes=30),
        walltime=timedelta(hours=2),
        priority_class="high",
        topology=Topology(level=Level.RACK, required=False),
        speed={"h100-lab": 2.0},
        slot="1/4",
        deadline=datetime(2030, 3, 1, 12, tzinfo=UTC),
        preemptible=True,
        checkpoint=timedelta(minutes=5),
    )


def test_a_step_whose_node_was_lost_waits_for_another(
    ledger: Opened, ledger_url: str, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run again, it waits by its new patience, and goes on with other nodes under a new token."""
    request = holding.request_from(run_id="run-9", **{**wish, "pods": 1})

    def take(timeout_seconds: int) -> Reservation:
        return holding.take(request, timeout_seconds=timeout_seconds, ledger=ledger_url, home="").reservation

    first = take(0)
    with ledger() as book:
        rest = book.submit(replace(request, request_key="rest"))
        book.mark_node(first.placements[0].node, NodeState.LOST)
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if line.startswith("waiting"):
            with ledger() as book:
                book.cancel(rest.id)

    monkeypatch.setattr(holding, "say", hear)
    again = take(60)
    assert heard[0].startswith("waiting for slots in place of lost nodes: ETA")
    assert again.id == first.id
    assert (again.token or 0) > (first.token or 0)
    assert again.placements == rest.placements
    assert again.expires_at is not None
    assert again.expires_at > present() + timedelta(minutes=20)  # kept for the work, not for five minutes


def test_a_deadline_that_cannot_be_kept_is_the_reason(
    held: Reservation, ledger: Opened, ledger_url: str, wish: Wish
) -> None:
    """A step that cannot start in time any more says so, and does not speak of somebody else."""
    end = (present() + timedelta(minutes=30, seconds=2)).isoformat()
    request = holding.request_from(run_id="run-9", **wish, deadline=end)
    with pytest.raises(Refusal, match="the last start that would do has passed: waiting"):
        holding.take(request, timeout_seconds=60, ledger=ledger_url, home="")
    with ledger() as book:
        assert book.get(held.id).state is ReservationState.GRANTED


def test_wrong_patience_is_named(home: Path, wish: Wish) -> None:
    """A negative wait is refused before the ledger is touched."""
    request = holding.request_from(run_id="run-8", **wish)
    with pytest.raises(InputError) as refused:
        holding.take(request, timeout_seconds=-1, ledger="", home="")
    assert refused.value.field == "timeout_seconds"
    assert not home.exists()
