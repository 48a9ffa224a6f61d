"""The operators against a real ledger, run by Airflow, their triggers included."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TriggerEvent
from airflow.utils.state import DagRunState, TaskInstanceState
from tests.airflow.stage import a_context
from tests.airflow.versions import TaskDeferred

from gangplan.client.attempts import give_back, submit
from gangplan.config import present
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import GangRequest, Level, NodeState, PodSet, Reservation, ReservationState, Topology, WorkloadClass
from gangplan_airflow import news
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.operators import WISHED, ReleaseGangOperator, ReserveGangOperator
from gangplan_airflow.trigger import GangGrantedTrigger

pytestmark = [
    pytest.mark.usefixtures("metadata"),
    pytest.mark.present("tasks wait beside Airflow's own clock, and a wait has to end"),
]
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]


def an_operator(**given: Any) -> ReserveGangOperator:
    """A reserve task outside of any DAG, whose request key is `key`."""
    arguments: dict[str, Any] = {"accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": 60, **given}
    return ReserveGangOperator(task_id="reserve", tenant="vision", request_key="key", **arguments)


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
        ({"topology": "row"}, "topology"),
        ({"speed": {"a100": 2}}, "speed"),
        ({"speed": {"h100": "fast"}}, "speed"),
        ({"slot": "1/4"}, "slot"),
        ({"deadline": "2026-03-02T09:00:00"}, "deadline"),
        ({"deadline": "2020-03-02T09:00:00Z"}, "deadline"),
        ({"checkpoint": "soon"}, "checkpoint"),
        ({"preemptible": "perhaps"}, "preemptible"),
        ({"priority_class": "urgent"}, "priority_class"),
        ({"min_pods": 3}, "pod_sets.min_count"),
        ({"max_pods": "{{ none }}"}, "max_count"),
        ({"topology": "rack", "options": {"topology": "node"}}, "given twice"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_reserved(ledger: Ledger, given: dict[str, Any], named: str) -> None:
    """A wrong argument fails the task with its name, before anything is submitted."""
    with pytest.raises(AirflowFailException, match=named):
        an_operator(**given).execute(a_context())
    assert ledger.list() == ()


def test_each_argument_is_a_field_of_a_request_and_the_rest_are_options() -> None:
    """The operator's arguments about the gang are the request's fields by their own names."""
    own = {"wait_timeout", "on_timeout", "options", "gangplan_conn_id", "self", "kwargs"}
    pods = {"pods", "gpus_per_pod", "min_pods", "max_pods"}
    asked = set(signature(ReserveGangOperator.__init__).parameters) - own
    assert pods < asked
    assert asked - pods < set(GangRequest.__dataclass_fields__)
    assert asked - pods == {"request_key", "tenant", "accelerators", "duration", *WISHED}


def test_every_wish_reaches_the_ledger(ledger: Ledger) -> None:
    """The request's fields are arguments by their own names, and may be text, as templates make them."""
    end = present().replace(microsecond=0) + timedelta(hours=3)
    an_operator(
        min_pods="1",
        max_pods=4,
        priority_class="high",
        preemptible="true",
        checkpoint="5m",
        topology="rack:preferred",
        speed={"h100": "2.0"},
        slot="gpu",
        deadline=end.isoformat(),
        options={"walltime": "2h", "workload_class": "cost"},
    ).execute(a_context())
    [row] = ledger.list()
    assert row.request == a_request(
        "key",
        pod_sets=(PodSet(count=2, gpus_per_pod=4, min_count=1, max_count=4),),
        duration=timedelta(minutes=1),
        walltime=timedelta(hours=2),
        priority_class="high",
        preemptible=True,
        checkpoint=timedelta(minutes=5),
        topology=Topology(level=Level.RACK, required=False),
        speed={"h100": 2.0},
        deadline=end,
        workload_class=WorkloadClass.COST,
        latest_start=row.request.latest_start,
        claim_within=timedelta(minutes=2),
    )


def test_a_task_whose_node_was_lost_waits_for_another(ledger: Ledger) -> None:
    """Run again, it defers by its new patience, says what it waits for, and gets slots under a new token."""
    operator = an_operator(pods=1, duration="1h", wait_timeout="10m")
    first = operator.execute(a_context())
    rest = ledger.submit(a_request("rest", pod_sets=(PodSet(count=1, gpus_per_pod=4),)))
    ledger.mark_node(first["nodes"][0], NodeState.LOST)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(a_context())
    trigger = deferred.value.trigger
    assert isinstance(trigger, GangGrantedTrigger)
    assert "waiting for 1 x 4 GPUs of h100 in place of lost nodes" in trigger.because
    ledger.cancel(rest.id)
    event = asyncio.run(fired(trigger))
    again = operator.resume(a_context(), event.payload)
    assert (again["id"], again["interruptions"]) == (first["id"], 1)
    assert again["token"] > first["token"]
    assert again["nodes"] != first["nodes"]
    expires = datetime.fromisoformat(again["expires_at"])
    assert expires > present() + timedelta(minutes=50)  # not the five minutes that a replacement is kept unclaimed


async def fired(trigger: GangGrantedTrigger) -> TriggerEvent:
    """Run a trigger until it fires."""
    return await anext(aiter(trigger.run()))


def test_a_trigger_fires_at_its_deadline(ledger: Ledger, take_all: TakeAll) -> None:
    """With no slots by then, it fires, and leaves the request to its task."""
    take_all(timedelta(hours=1))
    waiting = submit(ledger, a_request("key"), present() + timedelta(hours=1))
    event = asyncio.run(fired(trigger_of(waiting, present() + timedelta(seconds=0.5))))
    assert event.payload == {"reservation_id": waiting.id, "because": "it was full", "late": True}
    assert ledger.get(waiting.id).state is ReservationState.WAITING


async def follow_all(triggers: list[GangGrantedTrigger], once: Callable[[], None]) -> list[TriggerEvent]:
    """Run triggers side by side, do something once all of them wait, and return what they fired."""
    following: list[GangGrantedTrigger] = []
    waits = asyncio.Event()

    def noted(trigger: GangGrantedTrigger) -> None:
        follow = trigger._follow

        async def noting(news: asyncio.Queue[Reservation]) -> None:
            following.append(trigger)
            if len(following) == len(triggers):
                waits.set()
            await follow(news)

        trigger._follow = noting  # type: ignore[method-assign]

    for trigger in triggers:
        noted(trigger)
    running = [asyncio.create_task(fired(trigger)) for trigger in triggers]
    await asyncio.wait_for(waits.wait(), 60)
    await asyncio.to_thread(once)
    return await asyncio.wait_for(asyncio.gather(*running), 60)


def test_many_deferred_tasks_share_one_thread(ledger: Ledger, take_all: TakeAll) -> None:
    """A hundred triggers open the ledger once and have one thread for them all, which ends with the last of them."""
    holder = take_all(timedelta(hours=1))
    until = present() + timedelta(hours=1)
    waiting = [submit(ledger, a_request(f"key-{number}"), until) for number in range(100)]
    before = set(threading.enumerate())
    threads: list[str] = []

    def end_all() -> None:
        new = set(threading.enumerate()) - before
        threads.extend(thread.name for thread in new if not thread.name.startswith("asyncio"))
        for row in waiting:
            ledger.cancel(row.id)

    events = asyncio.run(follow_all([trigger_of(row, until) for row in waiting], end_all))
    assert sorted(event.payload["reservation_id"] for event in events) == sorted(row.id for row in waiting)
    assert len(threads) == 1
    assert news._open == {}
    assert ledger.get(holder.id).state is ReservationState.GRANTED
    assert not [thread for thread in threading.enumerate() if thread.name in threads and thread not in before]


def test_a_ledger_that_is_away_is_asked_again(
    ledger: Ledger, take_all: TakeAll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that starts while the ledger cannot be opened goes on when it can."""
    holder = take_all(timedelta(hours=1))
    waiting = submit(ledger, a_request("key"), present() + timedelta(hours=1))
    ledger.cancel(holder.id)
    monkeypatch.setattr("gangplan_airflow.trigger.AGAIN_S", 0.1)
    home = tmp_path / "ledger.db"
    away = tmp_path / "away.db"
    home.rename(away)
    home.mkdir()  # what is a folder cannot be opened as a file

    async def come_back() -> TriggerEvent:
        running = asyncio.create_task(fired(trigger_of(waiting, present() + timedelta(hours=1))))
        done, _ = await asyncio.wait([running], timeout=0.5)
        assert not done
        home.rmdir()
        away.rename(home)
        return await asyncio.wait_for(running, 30)

    assert asyncio.run(come_back()).payload["reservation_id"] == waiting.id


def test_a_retry_is_the_same_reservation(ledger: Ledger) -> None:
    """A task that runs again while its reservation lives gets it, not a second one."""
    until = present() + timedelta(hours=1)
    first = submit(ledger, a_request("airflow/dag/run/reserve/-1"), until)
    again = submit(ledger, a_request("airflow/dag/run/reserve/-1"), until + timedelta(minutes=5))
    assert (again.id, again.token) == (first.id, first.token)


def test_a_cleared_task_reserves_anew(ledger: Ledger) -> None:
    """A task that runs again after its slots were given back gets new ones, and one release ends them all."""
    until = present() + timedelta(hours=1)
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
    until = present() + timedelta(minutes=10)
    waiting = submit(ledger, a_request("key"), until)
    assert waiting.request.latest_start is not None
    assert until < waiting.request.latest_start < until + timedelta(minutes=5)


def test_killing_the_running_task_gives_the_request_back(ledger: Ledger) -> None:
    """`on_kill` of the operator releases what its try holds, and nothing that a later try has taken over."""
    first, second = an_operator(), an_operator()
    held = first.execute(a_context())
    assert second.execute(a_context(try_number=2))["id"] == held["id"]
    first.on_kill()
    assert ledger.get(held["id"]).state is ReservationState.GRANTED
    second.on_kill()
    assert ledger.get(held["id"]).state is ReservationState.RELEASED


def trigger_of(waiting: Reservation, until: datetime) -> GangGrantedTrigger:
    """The trigger that waits for a reservation."""
    return GangGrantedTrigger(
        gangplan_conn_id="gangplan_default",
        request_key=waiting.request.request_key,
        reservation_id=waiting.id,
        because="it was full",
        until=until.isoformat(),
    )


def waiting_trigger(ledger: Ledger) -> tuple[GangGrantedTrigger, Reservation]:
    """A trigger of a task whose request waits."""
    waiting = submit(ledger, a_request("key"), present() + timedelta(hours=1))
    assert waiting.state is ReservationState.WAITING
    trigger = trigger_of(waiting, present() + timedelta(hours=1))
    return trigger, waiting


def test_a_broken_trigger_gives_the_request_back(ledger: Ledger, take_all: TakeAll) -> None:
    """When Airflow resumes the task only to fail it, nobody would take the slots: the request is cancelled."""
    take_all(timedelta(hours=1))
    with pytest.raises(TaskDeferred) as deferred:
        an_operator().execute(a_context())
    with pytest.raises(Exception, match="Trigger timeout"):
        an_operator().resume_execution("__fail__", {"error": "Trigger timeout"}, a_context())
    assert ledger.get(deferred.value.trigger.reservation_id).state is ReservationState.CANCELLED


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
    """The XCom is plain JSON: id, token, key, placements, node names, wait, whose attempt it is."""
    slots = an_operator().execute(a_context())
    assert json.loads(json.dumps(slots)) == slots
    assert slots["nodes"] == ["h100-owned-0", "h100-owned-1"]
    assert slots["token"] == ledger.get(slots["id"]).token
    assert slots["attempt"] == "airflow/dag/run/reserve/-1/1"
    assert "sqlite" not in str(slots)
