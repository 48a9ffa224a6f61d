"""What tasks and runs leave when they end: the listener hears of it, and a sweep finds the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest
from airflow.cli import cli_parser
from airflow.jobs.job import Job
from airflow.sdk import DAG
from airflow.utils.state import DagRunState, TaskInstanceState
from fastapi.testclient import TestClient
from tests.airflow.stage import Run, keep_dags
from tests.airflow.versions import AIRFLOW

from gangplan.config import present
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import Reservation, ReservationId, ReservationState
from gangplan_airflow.owners import give_back_all, sweep

pytestmark = pytest.mark.present("tasks wait beside Airflow's own clock")
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def kept(metadata: None) -> None:
    """Airflow keeps the DAGs of the tests in its database."""
    keep_dags()


def comes_to(ledger: Ledger, id: str, state: ReservationState, seconds: float = 60) -> bool:
    """Wait until a reservation is in a state: what a listener does, another thread does."""
    until = time.monotonic() + seconds
    while ledger.get(ReservationId(id)).state is not state and time.monotonic() < until:
        time.sleep(0.02)
    return ledger.get(ReservationId(id)).state is state


def of_run(ledger: Ledger, run: Run) -> Reservation:
    """Return what a run's only reserve task asked for last."""
    return [row for row in ledger.list() if f"/{quote(run.run_id, safe='')}/" in row.attempt][-1]


SKIPPED = pytest.param(
    "skipped", marks=pytest.mark.skipif(AIRFLOW < (3, 2), reason="Airflow 3.1 tells nobody of a task marked as skipped")
)


@pytest.mark.parametrize("new", ["failed", "success", SKIPPED])
def test_a_mark_is_heard_without_a_triggerer(
    web: TestClient, ledger: Ledger, dags: Dags, take_all: TakeAll, new: str
) -> None:
    """Marked in Airflow's API while no triggerer has loaded its trigger, a waiting task leaves the line at once."""
    take_all(HOUR)
    run = Run(dags["gang"])
    run.execute("reserve")
    path = f"/api/v2/dags/gang/dagRuns/{quote(run.run_id, safe='')}/taskInstances/reserve"
    answer = web.patch(path, json={"new_state": new})
    assert answer.status_code == 200, answer.text
    assert comes_to(ledger, of_run(ledger, run).id, ReservationState.CANCELLED)


def test_a_run_that_a_user_fails_gives_up_its_wait(
    web: TestClient, ledger: Ledger, dags: Dags, take_all: TakeAll
) -> None:
    """Marked failed in Airflow's API, a run's waiting request is cancelled though its teardown is still to come."""
    take_all(HOUR)
    run = Run(dags["gang"])
    run.execute("reserve")
    answer = web.patch(f"/api/v2/dags/gang/dagRuns/{quote(run.run_id, safe='')}", json={"state": "failed"})
    assert answer.status_code == 200, answer.text
    assert comes_to(ledger, of_run(ledger, run).id, ReservationState.CANCELLED)


@pytest.mark.parametrize("end", [DagRunState.FAILED, DagRunState.SUCCESS])
def test_the_end_of_a_run_gives_back_what_it_holds(ledger: Ledger, dags: Dags, end: DagRunState) -> None:
    """Without a teardown, or with one that never ran, the run's end gives the slots back."""
    run = Run(dags["alone"])
    assert run.execute("reserve") == "success"
    run.ended(end)
    assert comes_to(ledger, of_run(ledger, run).id, ReservationState.CANCELLED)


def test_what_an_ended_run_holds_ends_without_its_process(
    ledger: Ledger, dags: Dags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hears of the end may be killed within the grace: the ledger itself ends the lease a little later."""
    monkeypatch.setenv("GANGPLAN_RELEASE_GRACE_S", "600")
    run = Run(dags["alone"])
    run.execute("reserve")
    held = of_run(ledger, run)
    run.ended(DagRunState.FAILED)

    def left() -> timedelta:
        expires = ledger.get(held.id).expires_at
        assert expires is not None
        return expires - present()

    over = time.monotonic() + 60
    while left() > timedelta(seconds=605) and time.monotonic() < over:
        time.sleep(0.02)
    assert timedelta(0) < left() <= timedelta(seconds=605)


def test_a_scheduler_that_starts_ends_what_one_that_was_killed_left(
    ledger: Ledger, dags: Dags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a run's end and the ledger's word of it, a scheduler leaves slots; the next one looks again."""
    monkeypatch.setenv("GANGPLAN_RELEASE_GRACE_S", "0")
    going, over = Run(dags["alone"]), Run(dags["alone"])
    going.execute("reserve")
    over.execute("reserve")
    over.set_state(DagRunState.FAILED)
    Job()
    assert comes_to(ledger, of_run(ledger, over).id, ReservationState.CANCELLED)
    assert of_run(ledger, going).state is ReservationState.GRANTED


def test_a_key_of_ones_own_outlives_a_run_that_succeeded(ledger: Ledger, dags: Dags) -> None:
    """Slots under the author's own key may be for another DAG's release to give back; not when the run failed."""
    run = Run(dags["handed_on"])
    run.execute("reserve")
    other = Run(dags["alone"])
    run.ended(DagRunState.SUCCESS)
    assert other.execute("reserve") == "success"
    other.ended(DagRunState.SUCCESS)  # heard after the first, by the same thread
    assert comes_to(ledger, of_run(ledger, other).id, ReservationState.CANCELLED)
    assert of_run(ledger, run).state is ReservationState.GRANTED
    run.ended(DagRunState.FAILED)
    assert comes_to(ledger, of_run(ledger, run).id, ReservationState.CANCELLED)


def test_a_teardown_to_come_is_waited_for(ledger: Ledger, dags: Dags) -> None:
    """While tasks of the run go on, what it holds stays: killed work may live, and the teardown gives back."""
    run = Run(dags["gang"])
    run.execute("reserve")
    run.ended(DagRunState.FAILED)
    other = Run(dags["alone"])
    other.ended(DagRunState.SUCCESS)
    held = of_run(ledger, run)
    assert not comes_to(ledger, held.id, ReservationState.CANCELLED, seconds=0.5)
    assert run.execute("release") == "success"
    assert ledger.get(held.id).state is ReservationState.RELEASED


def swept(ledger: Ledger, run: Run) -> list[str]:
    """Sweep in a task of a run; return the ids of what was given back."""
    return [row.id for row in run.ask(lambda ti: sweep(ledger, ti))]


def test_the_sweep_ends_what_belongs_to_nobody(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """Runs that ended or were deleted, tasks that ended without slots; what goes on, and others' requests, stay."""
    sweeper = Run(dags["alone"])
    holder = take_all(HOUR)
    runs = {name: Run(dags["gang"]) for name in ("goes on", "failed", "deleted", "lost", "cleared")}
    for run in runs.values():
        run.execute("reserve")
    runs["failed"].set_state(DagRunState.FAILED)
    runs["deleted"].delete()
    runs["lost"].mark("reserve", TaskInstanceState.FAILED)
    runs["cleared"].clear("reserve")
    elsewhere = ledger.submit(a_request("theirs"), "airflow/unknown/run/reserve/-1/1")
    rows = {name: of_run(ledger, run).id for name, run in runs.items()}
    assert set(swept(ledger, sweeper)) == {rows[name] for name in ("failed", "deleted", "lost")}
    for id in (rows["goes on"], rows["cleared"], elsewhere.id):
        assert ledger.get(id).state is ReservationState.WAITING
    assert ledger.get(holder.id).state is ReservationState.GRANTED
    assert swept(ledger, sweeper) == []


def test_the_sweep_leaves_slots_that_are_worked_on(ledger: Ledger, dags: Dags) -> None:
    """A reserve task that was marked failed after its grant loses its slots only when nothing in the run is busy."""
    run = Run(dags["gang"])
    run.execute("reserve")
    run.mark("reserve", TaskInstanceState.FAILED)
    run.mark("work", TaskInstanceState.RUNNING)
    assert swept(ledger, Run(dags["alone"])) == []
    run.mark("work", TaskInstanceState.FAILED)
    assert swept(ledger, Run(dags["alone"])) == [of_run(ledger, run).id]


def test_a_reserve_task_that_fails_holds_nothing(ledger: Ledger, dags: Dags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever broke after the grant, its process gives back what the try has."""
    monkeypatch.setattr("gangplan_airflow.operators.granted_text", lambda held: held["no such thing"])
    run = Run(dags["alone"])
    assert run.execute("reserve") == "failed"
    assert of_run(ledger, run).state is ReservationState.RELEASED


def test_tasks_test_leaves_nothing_behind(ledger: Ledger, dags: Dags) -> None:
    """`airflow tasks test` reserves on the real ledger: when its process ends, what it reserved goes back."""
    arguments = cli_parser.get_parser().parse_args(["tasks", "test", "alone", "reserve", "2026-03-02"])
    arguments.func(arguments)
    [row] = ledger.list()
    assert row.state is ReservationState.GRANTED
    give_back_all()
    assert ledger.get(row.id).state is ReservationState.RELEASED


def test_dags_test_leaves_nothing_behind(ledger: Ledger, dags: Dags) -> None:
    """Nor does `airflow dags test`, when a run has no release."""
    dags["handed_on"].test()
    give_back_all()
    assert [row.state for row in ledger.list()] == [ReservationState.RELEASED]


def test_the_plugin_brings_the_listener() -> None:
    """Airflow has it, once, in every process that loads plugins."""
    from airflow.listeners.listener import get_listener_manager

    registered = [getattr(one, "__name__", "") for one in get_listener_manager().pm.get_plugins()]
    assert registered.count("gangplan_airflow.listener") == 1
