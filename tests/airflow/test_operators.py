"""The operators against a real ledger, run by Airflow, their triggers included."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.jobs.triggerer_job_runner import _USER_ACTION_CANCEL_MSG, TriggerRunner
from airflow.sdk import DAG
from airflow.utils.state import DagRunState, TaskInstanceState

from gangplan.clock import system_clock
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.steps import give_back, submit
from gangplan.testing import a_request
from gangplan.types import Reservation, ReservationState
from gangplan_airflow.operators import ReleaseGangOperator, ReserveGangOperator
from gangplan_airflow.trigger import GangGrantedTrigger

pytestmark = pytest.mark.usefixtures("metadata")
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]


def an_operator(**given: Any) -> ReserveGangOperator:
    """A reserve task outside of any DAG, whose request key is `key`."""
    arguments: dict[str, Any] = {"accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": 60, **given}
    return ReserveGangOperator(task_id="reserve", tenant="vision", request_key="key", **arguments)


@pytest.fixture(scope="session")
def dags(metadata: None) -> dict[str, DAG]:
    """The DAGs of tests/airflow/dags."""
    bag = DagBag(str(Path(__file__).parent / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


def run(dag: DAG) -> tuple[str, dict[str, str]]:
    """Run a DAG to its end; return its state and those of its tasks."""
    ended = dag.test()
    return ended.state, {row.task_id: row.state for row in ended.get_task_instances()}


@contextmanager
def released_when_asked_for(ledger: Ledger, holder: Reservation) -> Generator[None]:
    """End the holder's lease as soon as somebody waits for its slots."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            if ledger.list(ReservationState.WAITING):
                ledger.cancel(holder.id)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def of_dag(ledger: Ledger, dag_id: str) -> list[Reservation]:
    """The reservations that a DAG's tasks made."""
    return [row for row in ledger.list() if row.request.request_key.startswith(f"airflow/{dag_id}/")]


def test_free_slots_are_granted_and_given_back(ledger: Ledger, dags: Dags) -> None:
    """Free slots are held while the work runs and released after it, by the run's own key."""
    state, tasks = run(dags["granted"])
    assert (state, set(tasks.values())) == (DagRunState.SUCCESS, {TaskInstanceState.SUCCESS})
    [row] = of_dag(ledger, "granted")
    assert row.state is ReservationState.RELEASED
    assert row.request.request_key.endswith("/reserve/-1")
    assert row.request.gpus == 8


def test_taken_slots_are_waited_for(
    ledger: Ledger, dags: Dags, take_all: TakeAll, capfd: pytest.CaptureFixture[str]
) -> None:
    """While others hold the slots the task defers and says until when and why; when their lease is over it goes on."""
    holder = take_all(timedelta(hours=1))
    with released_when_asked_for(ledger, holder):
        state, _ = run(dags["waits"])
    assert state == DagRunState.SUCCESS
    [row] = of_dag(ledger, "waits")
    assert row.state is ReservationState.RELEASED
    assert row.waited is not None
    assert row.waited > timedelta(0)
    said = capfd.readouterr().out
    assert "waiting for 2 x 4 GPUs of h100; ETA 20" in said
    assert "another gang" in said
    assert "granted after" in said


def test_a_wait_has_an_end(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """After wait_timeout the request is cancelled, the task fails, no work runs, the holder keeps its slots."""
    holder = take_all(timedelta(hours=1))
    state, tasks = run(dags["late"])
    assert state == DagRunState.FAILED
    assert tasks["reserve"] == TaskInstanceState.FAILED
    assert tasks["work"] == TaskInstanceState.UPSTREAM_FAILED
    assert [row.state for row in of_dag(ledger, "late")] == [ReservationState.CANCELLED]
    assert ledger.get(holder.id).state is ReservationState.GRANTED


def test_broken_work_gives_its_slots_back(ledger: Ledger, dags: Dags) -> None:
    """The teardown releases when the work fails, and the run is still a failed one."""
    state, tasks = run(dags["broken"])
    assert state == DagRunState.FAILED
    assert (tasks["work"], tasks["release"]) == (TaskInstanceState.FAILED, TaskInstanceState.SUCCESS)
    assert [row.state for row in of_dag(ledger, "broken")] == [ReservationState.RELEASED]


def test_templates_are_rendered_and_read(ledger: Ledger, dags: Dags) -> None:
    """Arguments may be templates; the numbers and times in them are read."""
    run(dags["templated"])
    [row] = of_dag(ledger, "templated")
    assert (row.request.pod_sets[0].count, row.request.duration, row.request.priority) == (2, timedelta(minutes=30), 7)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"pods": "many"}, "pod_sets"),
        ({"gpus_per_pod": 0}, "gpus_per_pod"),
        ({"duration": "soon"}, "duration"),
        ({"accelerators": []}, "accelerators"),
        ({"options": {"colour": "red"}}, "options"),
        ({"options": {"earliest_start": "2026-03-02T09:00:00"}}, "earliest_start"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_reserved(ledger: Ledger, given: dict[str, Any], named: str) -> None:
    """A wrong argument fails the task with its name, before anything is submitted."""
    with pytest.raises(InputError, match=named):
        an_operator(**given).execute({})  # type: ignore[typeddict-item]
    assert ledger.list() == ()


def test_a_retry_is_the_same_reservation(ledger: Ledger) -> None:
    """A task that runs again while its reservation lives gets it, not a second one."""
    until = system_clock() + timedelta(hours=1)
    first = submit(ledger, a_request("airflow/dag/run/reserve/-1"), until)
    again = submit(ledger, a_request("airflow/dag/run/reserve/-1"), until + timedelta(minutes=5))
    assert (again.id, again.token) == (first.id, first.token)


def test_a_cleared_task_reserves_anew(ledger: Ledger) -> None:
    """A task that runs again after its slots were given back gets new ones, and one release ends them all."""
    until = system_clock() + timedelta(hours=1)
    first = submit(ledger, a_request("key"), until)
    give_back(ledger, "key")
    second = submit(ledger, a_request("key"), until)
    assert second.id != first.id
    assert second.state is ReservationState.GRANTED
    assert [row.id for row in give_back(ledger, "key")] == [second.id]
    assert give_back(ledger, "key") == []


def test_an_abandoned_request_ends_by_itself(ledger: Ledger, take_all: TakeAll) -> None:
    """A request tells the ledger how long its task is ready to wait, so that none outlives a task that died."""
    take_all(timedelta(hours=1))
    until = system_clock() + timedelta(minutes=10)
    waiting = submit(ledger, a_request("key"), until)
    assert waiting.request.latest_start is not None
    assert until < waiting.request.latest_start < until + timedelta(minutes=5)


def test_killing_the_running_task_gives_the_request_back(ledger: Ledger) -> None:
    """`on_kill` of the operator releases what the task holds."""
    held = submit(ledger, a_request("key"), system_clock() + timedelta(hours=1))
    ReserveGangOperator(
        task_id="reserve",
        tenant="vision",
        accelerators=["h100"],
        pods=2,
        gpus_per_pod=4,
        duration=60,
        request_key="key",
    ).on_kill()
    assert ledger.get(held.id).state is ReservationState.RELEASED


def waiting_trigger(ledger: Ledger) -> tuple[GangGrantedTrigger, Reservation]:
    """A trigger of a task whose request waits."""
    waiting = submit(ledger, a_request("key"), system_clock() + timedelta(hours=1))
    assert waiting.state is ReservationState.WAITING
    until = (system_clock() + timedelta(hours=1)).isoformat()
    trigger = GangGrantedTrigger(
        gangplan_conn_id="gangplan_default",
        request_key="key",
        reservation_id=waiting.id,
        because="",
        until=until,
    )
    return trigger, waiting


async def cancel_in_triggerer(trigger: GangGrantedTrigger, *message: str) -> None:
    """Run a trigger as the triggerer does and cancel it as the triggerer does."""
    runner = TriggerRunner()
    runner.triggers[1] = {"name": "a trigger", "events": 0}  # type: ignore[typeddict-item]
    looked = asyncio.Event()
    look = trigger._look

    def noted(url: str) -> Reservation | None:
        found = look(url)
        loop.call_soon_threadsafe(looked.set)
        return found

    loop = asyncio.get_running_loop()
    trigger._look = noted  # type: ignore[method-assign]
    running = asyncio.create_task(runner.run_trigger(1, trigger))
    await asyncio.wait_for(looked.wait(), 30)
    running.cancel(*message)
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_user_who_ends_the_waiting_task_ends_its_request(ledger: Ledger, take_all: TakeAll) -> None:
    """Mark failed, clear, mark succeeded: the triggerer's kill takes the request out of the line."""
    take_all(timedelta(hours=1))
    trigger, waiting = waiting_trigger(ledger)
    asyncio.run(cancel_in_triggerer(trigger, _USER_ACTION_CANCEL_MSG))
    assert ledger.get(waiting.id).state is ReservationState.CANCELLED


def test_a_triggerer_that_restarts_keeps_the_place_in_line(ledger: Ledger, take_all: TakeAll) -> None:
    """A trigger that is cancelled because its triggerer stops leaves the request as it is."""
    take_all(timedelta(hours=1))
    trigger, waiting = waiting_trigger(ledger)
    asyncio.run(cancel_in_triggerer(trigger))
    assert ledger.get(waiting.id).state is ReservationState.WAITING


def test_a_broken_trigger_gives_the_request_back(ledger: Ledger, take_all: TakeAll) -> None:
    """When Airflow resumes the task only to fail it, nobody would take the slots: the request is cancelled."""
    take_all(timedelta(hours=1))
    waiting = submit(ledger, a_request("key"), system_clock() + timedelta(hours=1))
    reserve = ReserveGangOperator(
        task_id="reserve",
        tenant="vision",
        accelerators=["h100"],
        pods=2,
        gpus_per_pod=4,
        duration=60,
        request_key="key",
    )
    with pytest.raises(Exception, match="Trigger timeout"):
        reserve.resume_execution("__fail__", {"error": "Trigger timeout"}, {})  # type: ignore[arg-type]
    assert ledger.get(waiting.id).state is ReservationState.CANCELLED


def test_the_trigger_can_be_taken_up_elsewhere(ledger: Ledger, take_all: TakeAll) -> None:
    """What a trigger is rebuilt from names the connection, and no URL, for that may hold a password."""
    take_all(timedelta(hours=1))
    trigger, _ = waiting_trigger(ledger)
    path, arguments = trigger.serialize()
    assert path == "gangplan_airflow.trigger.GangGrantedTrigger"
    assert GangGrantedTrigger(**arguments).serialize() == (path, arguments)
    assert "sqlite" not in str(arguments)


def test_release_needs_to_know_what(ledger: Ledger) -> None:
    """A release without a reserve task or a key is refused where the DAG is written."""
    with pytest.raises(InputError, match="reserve"):
        ReleaseGangOperator(task_id="release")


def test_what_the_task_returns_holds_no_secret(ledger: Ledger) -> None:
    """The XCom is plain JSON: id, token, key, placements, node names, wait."""
    reserve = ReserveGangOperator(
        task_id="reserve",
        tenant="vision",
        accelerators=["h100"],
        pods=2,
        gpus_per_pod=4,
        duration=60,
        request_key="key",
    )
    slots = reserve.execute({})  # type: ignore[arg-type]
    assert json.loads(json.dumps(slots)) == slots
    assert slots["nodes"] == ["h100-owned-0", "h100-owned-1"]
    assert slots["token"] == ledger.get(slots["id"]).token
    assert "sqlite" not in str(slots)
