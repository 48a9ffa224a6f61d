"""What a release gives back: for every shape of DAG, for work that was killed, for work that is tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task_group
from airflow.utils.state import DagRunState, TaskInstanceState
from tests.airflow.stage import Run, Waiting, keep_dags
from tests.airflow.versions import DagBag

from gangplan.config import present
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.types import Reservation, ReservationState
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.operators import ReleaseGangOperator, ReserveGangOperator

pytestmark = pytest.mark.present("tasks wait beside Airflow's own clock")
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]
ASK: dict[str, Any] = {"tenant": "vision", "accelerators": ["h100"], "gpus_per_pod": 4, "duration": "1h"}


@pytest.fixture(scope="module", autouse=True)
def kept(metadata: None) -> None:
    """Airflow keeps the DAGs of the tests in its database."""
    keep_dags()


def test_every_shape_gives_all_back(ledger: Ledger, dags: Dags) -> None:
    """Mapped tasks with one release, with mapped ones, mapped groups, a release in another group, one by a key."""
    ended = dags["shapes"].test()
    assert ended.state == DagRunState.SUCCESS
    rows = ledger.list()
    assert sum(row.request.gpus for row in rows) == 8
    assert {row.request.request_key: row.state for row in rows if row.state is not ReservationState.RELEASED} == {}


def a_dag(dag_id: str = "one") -> DAG:
    """A DAG of its own."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_release_that_cannot_know_what_is_refused() -> None:
    """What is no reserve task, one of another DAG, and one outside of the mapped group that the release is in."""
    with a_dag():
        reserve = ReserveGangOperator(task_id="reserve", pods=1, **ASK)
        with pytest.raises(InputError, match="is no ReserveGangOperator"):
            ReleaseGangOperator(task_id="first", reserve=EmptyOperator(task_id="empty"))  # type: ignore[arg-type]

        @task_group
        def each(pods: int) -> None:
            with pytest.raises(InputError, match="reserve: 'reserve' is not in the mapped group 'each'"):
                ReleaseGangOperator(task_id="second", reserve=reserve)

        each.expand(pods=[1, 2])
    with a_dag("two"), pytest.raises(InputError, match="reserve: 'reserve' is a task of another DAG"):
        ReleaseGangOperator(task_id="third", reserve=reserve)


def test_a_refusal_is_an_import_error_of_the_dag(tmp_path: Path, metadata: None) -> None:
    """It stands where Airflow shows what is wrong with a DAG's file, with its remedy."""
    (tmp_path / "wrong.py").write_text(
        "from airflow.sdk import DAG\n"
        "from gangplan_airflow import ReleaseGangOperator\n"
        "with DAG('wrong'):\n"
        "    ReleaseGangOperator(task_id='release', reserve='reserve')\n"
    )
    [said] = DagBag(str(tmp_path)).import_errors.values()
    assert "reserve: 'reserve' is no ReserveGangOperator: give that, or the slots that it returned" in said


def test_a_late_release_changes_nothing_of_a_newer_try(
    ledger: Ledger, dags: Dags, capfd: pytest.CaptureFixture[str]
) -> None:
    """The slots that it was told of are another try's by now: it says loudly that there is nothing to give back."""
    run = Run(dags["gang"])
    run.execute("reserve")
    told = run.returned("reserve")
    run.clear("reserve")
    run.execute("reserve")
    release = ReleaseGangOperator(task_id="release", slots=told)
    assert release.execute({}) == []  # type: ignore[typeddict-item]
    said = capfd.readouterr().out
    assert "NOTHING TO GIVE BACK" in said
    assert told["attempt"] in said
    assert ledger.get(told["id"]).state is ReservationState.GRANTED


def test_a_key_that_nobody_has_is_said_loudly(ledger: Ledger, capfd: pytest.CaptureFixture[str]) -> None:
    """A release by a key that was misspelt does not pass in silence."""
    assert ReleaseGangOperator(task_id="release", request_key="nigthly").execute({}) == []  # type: ignore[typeddict-item]
    assert "NOTHING TO GIVE BACK: no live reservation has the request_key 'nigthly'" in capfd.readouterr().out


def test_work_without_slots_is_refused_before_its_first_line(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """A waiting reserve that was marked as a success returned nothing; the work fails, and is not tried again."""
    take_all(timedelta(hours=1))
    run = Run(dags["retried_work"])
    assert run.execute("reserve") == "deferred"
    Waiting(run).until_stopped(lambda: run.mark("reserve", TaskInstanceState.SUCCESS))
    assert run.execute("work" if "work" in run.dag.task_dict else "breaks_once") == "failed"
    assert run.execute("release") == "success"
    assert not [row for row in ledger.list() if f"/{run.run_id}/" in row.request.request_key and not row.state.final]


def test_slots_that_went_back_are_refused_with_the_remedy(ledger: Ledger, dags: Dags) -> None:
    """Work that comes when its slots are gone says what gives it slots again."""
    run = Run(dags["gang"])
    run.execute("reserve")
    slots = run.returned("reserve")
    ledger.release(slots["id"], slots["token"])
    with pytest.raises(AirflowFailException, match="clear the reserve task"), GangplanHook().hold(slots):
        raise AssertionError("the work must not begin")


def test_the_lease_lasts_until_the_work_is_tried_again(ledger: Ledger, dags: Dags) -> None:
    """The last renewal of work that failed covers its retry's delay, within the walltime; the retry has its slots."""
    run = Run(dags["retried_work"])
    run.execute("reserve")
    slots = run.returned("reserve")
    assert run.execute("breaks_once") == "up_for_retry"
    kept = ledger.get(slots["id"]).expires_at
    assert kept is not None
    assert kept > present() + timedelta(minutes=10)
    assert run.execute("breaks_once") == "success"


def test_a_lease_that_cannot_last_so_long_is_told(ledger: Ledger, dags: Dags, caplog: pytest.LogCaptureFixture) -> None:
    """Where the walltime ends before the retry, the log says when the slots go back and what helps."""
    run = Run(dags["short_work"])
    run.execute("reserve")
    assert run.execute("breaks_once") == "up_for_retry"
    assert "before the task is tried again: give the reserve task a longer duration" in caplog.text


def test_killed_work_keeps_its_slots_for_a_grace(
    ledger: Ledger, dags: Dags, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its process did not say that it ended, so the release waits; work that ended by itself is not waited for."""
    for state in (TaskInstanceState.FAILED, TaskInstanceState.SUCCESS):
        monkeypatch.setenv("GANGPLAN_RELEASE_GRACE_S", "0.3")
        run = Run(dags["gang"])
        run.execute("reserve")
        run.mark("work", state)
        before = present()
        assert run.execute("release") == "success"
        assert present() - before >= timedelta(seconds=0.3)
        assert "['work'] did not end by itself" in capfd.readouterr().out
    monkeypatch.setenv("GANGPLAN_RELEASE_GRACE_S", "600")
    run = Run(dags["gang"])
    assert [run.execute(name) for name in ("reserve", "work", "release")] == ["success"] * 3
    assert "did not end by itself" not in capfd.readouterr().out
