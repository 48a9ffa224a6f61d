"""The controller asks Airflow's own API which runs have ended, and gives back what they left in a SQL ledger."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote

import pytest
import uvicorn
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import delete, update
from tests.airflow.conftest import HOME
from tests.airflow.stage import Run, keep_dags

from gangplan.config import present
from gangplan.errors import InputError, UnavailableError
from gangplan.execute import AirflowRuns
from gangplan.reserve import OperableLedger
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from gangplan.workflows.execution.giving_back import DagRunOwners, GivingBack

pytestmark = pytest.mark.present("Airflow's own web server lives by the machine's clock")
ONE = (PodSet(count=1, gpus_per_pod=1),)
GRACE = timedelta(minutes=10)


@pytest.fixture(scope="module")
def address(metadata: None) -> Iterator[str]:
    """Airflow's web server on a free port, with the user who asks."""
    from airflow.api_fastapi.app import create_app

    keep_dags()
    server = uvicorn.Server(uvicorn.Config(create_app(apps="core"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    password = json.loads((HOME / "passwords.json").read_text())["viewer"]
    yield f"http://viewer:{password}@127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


def reserved(ledger: OperableLedger, run: Run, task: str, key: str = "", **changes: object) -> Reservation:
    """Reserve one GPU for a task of a run, under the key that its task would give it."""
    attempt = f"airflow/gang/{quote(run.run_id, safe='')}/{task}/-1/1"
    return ledger.submit(a_request(key or f"airflow/gang/{run.run_id}/{task}/-1", pod_sets=ONE, **changes), attempt)


def end(run: Run, state: DagRunState, *, tasks: str = "success") -> None:
    """End a run and its tasks in Airflow's database; no listener hears of it."""
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == run.run_id).values(state=state, end_date=present()))
        session.execute(update(TaskInstance).where(TaskInstance.run_id == run.run_id).values(state=tasks))


def delete_run(run: Run) -> None:
    """Delete a run from Airflow's database."""
    with create_session() as session:
        session.execute(delete(TaskInstance).where(TaskInstance.run_id == run.run_id))
        session.execute(delete(DagRun).where(DagRun.run_id == run.run_id))


def test_what_ended_runs_left_is_given_back(address: str, ledger: OperableLedger, dags: dict[str, DAG]) -> None:
    """Not what a run that goes on, or one whose teardown runs, or another Airflow has; nor before work has gone."""
    runs = {name: Run(dags["gang"]) for name in ("goes-on", "failed", "deleted", "teardown", "succeeded")}
    held = {name: reserved(ledger, run, "reserve") for name, run in runs.items()}
    unclaimed = reserved(ledger, runs["failed"], "other", claim_within=timedelta(minutes=5))
    shared = reserved(ledger, runs["succeeded"], "third", key="for-another-dag")
    elsewhere = ledger.submit(a_request("elsewhere", pod_sets=ONE), "airflow/nowhere/run/task/-1/1")
    now, given = [present()], list[str]()
    owners = DagRunOwners(runs=AirflowRuns(address), name="", grace=GRACE, clock=lambda: now[0])
    back = GivingBack(ledger=ledger, owners=(owners,), clock=present, may_begin=lambda: None, given=given.append)
    back.look()
    assert given == []
    end(runs["failed"], DagRunState.FAILED)
    end(runs["succeeded"], DagRunState.SUCCESS)
    end(runs["teardown"], DagRunState.FAILED, tasks="running")
    delete_run(runs["deleted"])
    back.look()
    assert states(ledger, held) == {"deleted"}  # killed work may live on for the grace
    assert ledger.get(unclaimed.id).state is ReservationState.CANCELLED
    now[0] += GRACE + timedelta(seconds=5)
    back.look()
    assert states(ledger, held) == {"deleted", "failed", "succeeded"}
    assert {ledger.get(row.id).state for row in (shared, elsewhere)} == {ReservationState.GRANTED}
    back.look()
    assert given == ["DAG run"] * 4


def states(ledger: OperableLedger, held: dict[str, Reservation]) -> set[str]:
    """Return what has ended."""
    return {name for name, row in held.items() if ledger.get(row.id).state is ReservationState.CANCELLED}


def test_an_airflow_that_is_away_or_none_is_named(address: str, ledger: OperableLedger, dags: dict[str, DAG]) -> None:
    """And a wrong password, without the password."""
    reserved(ledger, Run(dags["gang"]), "reserve")
    with pytest.raises(InputError, match=r"airflow_api: .* give it like https://user:password@host"):
        AirflowRuns("http://localhost:8080")
    with pytest.raises(UnavailableError, match="cannot be asked"):
        AirflowRuns("http://viewer:secret@127.0.0.1:9").look()
    with pytest.raises(Exception, match="/auth/token was answered with 401") as refused:
        AirflowRuns(f"http://viewer:secret@{address.rpartition('@')[2]}").look()
    assert "secret" not in str(refused.value)
