"""A grant belongs to a try of a task: what an old try or a user's act does leaves no slot held by nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.utils.state import TaskInstanceState
from hypothesis import given, strategies as st
from tests.airflow.stage import Run, Waiting, a_context, keep_dags
from tests.airflow.versions import TaskDeferred

from gangplan.config import present
from gangplan.errors import KeyConflictError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.types import Reservation, ReservationState
from gangplan_airflow.attempts import LONGEST_KEY, Attempt
from gangplan_airflow.compat import RETRIES_FROM_TRIGGERS
from gangplan_airflow.operators import ReserveGangOperator

pytestmark = pytest.mark.present("tasks wait beside Airflow's own clock")
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def kept(metadata: None) -> None:
    """Airflow keeps the DAGs of the tests in its database."""
    keep_dags()


def of_run(ledger: Ledger, run: Run) -> list[Reservation]:
    """Return what a run's tasks asked for."""
    return [row for row in ledger.list() if f"/{run.run_id}/" in row.request.request_key]


def a_waiting_run(dag: DAG, ledger: Ledger) -> tuple[Run, Reservation]:
    """Return a run whose reserve task is deferred, and its reservation, which waits."""
    run = Run(dag)
    assert run.execute("reserve") == "deferred"
    [row] = of_run(ledger, run)
    assert row.state is ReservationState.WAITING
    return run, row


def test_the_trigger_ends_the_task_itself(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """Granted, the task succeeds with its slots as what it returns, and no worker was asked."""
    holder = take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    Waiting(run).until_over(lambda: ledger.cancel(holder.id))
    assert run.state("reserve") == "success"
    held, now = run.returned("reserve"), ledger.get(row.id)
    assert (held["id"], held["token"], held["gpus"]) == (row.id, now.token, 8)
    assert held["attempt"] == now.attempt
    assert now.claim_by is None
    assert [run.execute(task) for task in ("work", "release")] == ["success", "success"]
    assert ledger.get(row.id).state is ReservationState.RELEASED


@pytest.mark.skipif(not RETRIES_FROM_TRIGGERS, reason="before Airflow 3.3 a worker fails the task")
@pytest.mark.parametrize(("dag", "ends"), [("gang", "failed"), ("tried_twice", "up_for_retry")])
def test_the_trigger_fails_the_task_at_its_deadline(
    ledger: Ledger, dags: Dags, take_all: TakeAll, dag: str, ends: str
) -> None:
    """With no slots by then the request is cancelled, and the task fails or is tried again."""
    take_all(HOUR)
    run, row = a_waiting_run(dags[dag], ledger)
    waiting = Waiting(run)
    waiting.trigger.until = present().isoformat()
    waiting.until_over()
    assert run.state("reserve") == ends
    assert ledger.get(row.id).state is ReservationState.CANCELLED


@pytest.mark.parametrize(("dag", "work"), [("gang", "work"), ("bare", "plain")])
def test_work_never_runs_without_slots(
    dags: Dags, take_all: TakeAll, capfd: pytest.CaptureFixture[str], dag: str, work: str
) -> None:
    """A waiting reserve task that is marked as a success has no slots: work that knows of no lease is refused, too."""
    take_all(timedelta(hours=1))
    run = Run(dags[dag])
    assert run.execute("reserve") == "deferred"
    run.mark("reserve", TaskInstanceState.SUCCESS)
    assert run.execute(work) == "failed"
    said = capfd.readouterr().out
    assert "there are no slots: the reserve task reserved none" in said
    assert "at work on" not in said


def test_slots_of_a_try_that_was_cleared_are_no_slots(
    ledger: Ledger, dags: Dags, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it returned stays until the next try begins; when that one is marked as a success, nobody holds them."""
    run = Run(dags["bare"])
    assert run.execute("reserve") == "success"
    ledger.cancel(run.returned("reserve")["id"])
    assert run.execute("plain") == "failed"
    said = capfd.readouterr().out
    assert "are not this gang's any more" in said
    assert "at work on" not in said


def test_the_slots_of_an_earlier_gang_are_no_matter(ledger: Ledger, dags: Dags) -> None:
    """Where a gang comes after another in one DAG, the first one's slots went back before its work begins."""
    run = Run(dags["in_turn"])
    tasks = ("first_reserve", "first", "first_release", "second_reserve", "second")
    assert [run.execute(task) for task in tasks] == ["success"] * 5
    assert [row.request.gpus for row in ledger.list(ReservationState.GRANTED)] == [8]


def test_work_that_knows_of_no_lease_runs_on_its_slots(
    ledger: Ledger, dags: Dags, capfd: pytest.CaptureFixture[str]
) -> None:
    """What looks for the slots does not stand in its way."""
    run = Run(dags["bare"])
    assert [run.execute("reserve"), run.execute("plain")] == ["success", "success"]
    assert "at work on 8" in capfd.readouterr().out
    assert [row.request.gpus for row in ledger.list(ReservationState.GRANTED)] == [8]


@pytest.mark.parametrize("ends", ["failed", "success", "skipped", "upstream_failed", "removed", "deleted"])
def test_a_user_who_ends_a_waiting_task_ends_its_request(
    ledger: Ledger, dags: Dags, take_all: TakeAll, ends: str
) -> None:
    """However it ends, its triggerer takes the request out of the line."""
    take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    end = run.delete if ends == "deleted" else lambda: run.mark("reserve", TaskInstanceState(ends))
    Waiting(run).until_stopped(end)
    assert ledger.get(row.id).state is ReservationState.CANCELLED


def test_a_triggerer_that_restarts_keeps_the_place_in_line(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """A trigger that is cancelled because its triggerer stops leaves the request as it is."""
    take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    Waiting(run).until_stopped(by_user=False)
    assert ledger.get(row.id).state is ReservationState.WAITING


def test_a_cleared_task_keeps_its_place_in_line(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """The next try takes the request over; the old try's trigger ends nothing, not even when it is killed late."""
    holder = take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    old = Waiting(run)
    old.until_stopped(lambda: run.clear("reserve"))
    assert ledger.get(row.id).state is ReservationState.WAITING
    ledger.cancel(holder.id)
    assert run.execute("reserve") == "success"
    held = run.returned("reserve")
    assert held["id"] == row.id
    assert held["attempt"].endswith("/2")
    old.until_stopped()
    assert ledger.get(row.id).state is ReservationState.GRANTED
    assert ledger.get(row.id).token == held["token"]


def test_the_trigger_of_an_old_try_writes_nothing(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """When slots come after a newer try has taken the place in line, the old trigger ends without an event."""
    holder = take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    old = Waiting(run)
    run.clear("reserve")
    assert run.execute("reserve") == "deferred"
    new = Waiting(run)
    old.until_over(lambda: ledger.cancel(holder.id))
    assert (run.state("reserve"), run.returned("reserve")) == ("deferred", None)
    new.until_over()
    assert run.state("reserve") == "success"
    assert run.returned("reserve")["id"] == row.id


def test_a_grant_that_nobody_claimed_is_asked_for_again(
    ledger: Ledger,
    dags: Dags,
    take_all: TakeAll,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a triggerer the slots go back in time; the trigger that comes then says so, and waits anew."""
    monkeypatch.setenv("GANGPLAN_CLAIM_WITHIN_S", "0.2")
    holder = take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    ledger.cancel(holder.id)
    until = time.monotonic() + 60
    while ledger.get(row.id).state is not ReservationState.EXPIRED and time.monotonic() < until:
        ledger.tick()
    monkeypatch.setenv("GANGPLAN_CLAIM_WITHIN_S", "120")
    Waiting(run).until_over()
    assert "nobody claimed it in time: its slots went back; asking again" in caplog.text
    assert run.state("reserve") == "success"
    held = run.returned("reserve")
    assert held["id"] != row.id
    assert held["key"] == f"{row.request.request_key}#2"


def test_a_task_that_was_ended_beside_its_grant_holds_nothing(
    ledger: Ledger, dags: Dags, take_all: TakeAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked failed between the claim and the end that its trigger fired, its slots go back."""
    monkeypatch.setattr("gangplan_airflow.trigger.ARRIVES_S", 0)
    holder = take_all(HOUR)
    run, row = a_waiting_run(dags["gang"], ledger)
    failed = TaskInstanceState.FAILED
    Waiting(run).until_over(lambda: ledger.cancel(holder.id), before_told=lambda: run.mark("reserve", failed))
    assert run.state("reserve") == "failed"
    assert ledger.get(row.id).state is ReservationState.RELEASED


def test_wrong_arguments_are_not_tried_again(ledger: Ledger, dags: Dags) -> None:
    """They would be wrong at each try: the task fails at once, whatever its retries."""
    run = Run(dags["wrong"])
    assert run.execute("reserve") == "failed"
    assert of_run(ledger, run) == []


def test_two_runs_with_one_key_are_told_apart(ledger: Ledger, dags: Dags) -> None:
    """While one run has the author's own key, another is refused, and takes nothing from it."""
    first, second = Run(dags["named"]), Run(dags["named"])
    assert first.execute("reserve") == "success"
    assert second.execute("reserve") == "failed"
    [row] = ledger.list()
    assert row.state is ReservationState.GRANTED
    assert row.attempt == first.returned("reserve")["attempt"]


def an_operator(**given: Any) -> ReserveGangOperator:
    """A reserve task outside of any DAG, with a key of its author's."""
    arguments: dict[str, Any] = {"accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": 60, **given}
    return ReserveGangOperator(task_id="reserve", tenant="vision", request_key="key", **arguments)


def test_another_owner_is_refused_by_name(ledger: Ledger) -> None:
    """The refusal names who has the key, and the remedy."""
    an_operator().execute(a_context())
    with pytest.raises(KeyConflictError, match=r"airflow/dag/run/reserve/-1/1: give each run its own key"):
        an_operator().execute(a_context("other"))


def test_a_changed_request_replaces_that_of_the_try_before(ledger: Ledger) -> None:
    """A DAG that was edited between two tries reserves what it says now."""
    first = an_operator().execute(a_context())
    second = an_operator(pods=1).execute(a_context(try_number=2))
    assert (second["gpus"], second["id"] != first["id"]) == (4, True)
    assert ledger.get(first["id"]).state is ReservationState.RELEASED


def test_what_execution_timeout_leaves_bounds_the_wait(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """Airflow does not apply it to a task that is deferred; the trigger does, and Airflow where no triggerer runs."""
    take_all(HOUR)
    operator: Any = dags["timed"].task_dict["reserve"]
    now = present()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(a_context())
    assert Waiting.until_of(deferred.value.trigger) < now + timedelta(minutes=3.5)
    assert timedelta(minutes=3) < deferred.value.timeout < timedelta(minutes=4)


def test_an_old_token_ends_nothing(ledger: Ledger) -> None:
    """Work of a try before is fenced off once the next try has its slots."""
    first = an_operator().execute(a_context())
    second = an_operator().execute(a_context(try_number=2))
    assert second["token"] > first["token"]
    with pytest.raises(StaleTokenError):
        ledger.renew(first["id"], first["token"])


texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=300)


@given(texts, texts, texts, st.integers(-1, 5000), st.integers(0, 99))
def test_an_attempt_is_read_as_it_was_written(dag: str, run: str, task: str, index: int, number: int) -> None:
    """Whatever the ids hold, and however long they are: the text names the attempt, and the key fits a ledger."""
    attempt = Attempt(dag_id=dag, run_id=run, task_id=task, map_index=index, try_number=number)
    assert Attempt.read(str(attempt)) == attempt
    assert len(attempt.key) <= LONGEST_KEY


def test_long_ids_give_keys_that_differ() -> None:
    """What a long key loses at its end is kept in a hash."""
    one, other = (
        Attempt(dag_id="d" * 250, run_id="r" * 250, task_id=f"{'t' * 249}{last}", map_index=-1, try_number=1)
        for last in "ab"
    )
    assert one.key != other.key
    assert Attempt.read("kfp/run/step/1") is None


def test_airflows_that_share_a_ledger_are_told_apart(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """With names of their own, DAGs of the same name ask side by side, and neither reads the other's attempts."""
    keyed: dict[str, Any] = {"tenant": "vision", "accelerators": ["h100"], "gpus_per_pod": 4, "duration": 60}
    rows = []
    for name in ("", "prod"):
        monkeypatch.setenv("GANGPLAN_AIRFLOW", name)
        rows.append(ReserveGangOperator(task_id="reserve", pods=1, **keyed).execute(a_context()))
    assert [row["key"] for row in rows] == ["airflow/dag/run/reserve/-1", "airflow:prod/dag/run/reserve/-1"]
    assert Attempt.read(rows[0]["attempt"]) is None
    assert Attempt.read(rows[1]["attempt"]) is not None
