"""What is done in the scheduler and the API server when a task or a run has ended, in a thread of its own.

Nothing is asked of the ledger for a DAG without gangplan's operators.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State
from sqlalchemy import select
from sqlalchemy.orm import object_session

from gangplan import reserve
from gangplan.config import load_settings
from gangplan.errors import StaleTokenError, UnavailableError
from gangplan.types import Reservation
from gangplan_airflow.attempts import Attempt, airflow_owner, run_owner
from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.owners.leftovers import end_leftover, end_leftovers, is_claimed, leftovers, live, outlives_run
from gangplan_airflow.owners.marks import connection_of

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

LATE = timedelta(seconds=5)
"""How long after its grace a lease ends that nobody has ended."""

PATIENCE_S, AGAIN_S = 60.0, 1.0

_log = logging.getLogger(__name__)


def task_ended(ti: Any) -> None:
    """End what a task waits for or has not claimed; what it has claimed goes back with its release or its run's end."""
    if name := _connection_of(_task_of(ti)):
        _later(_end_task, GangplanHook(name).ledger_url(), Attempt.of(ti))


def run_ended(dag_run: Any, *, succeeded: bool) -> None:
    """End what a run left; where a teardown is still to come, that gives back, and the scheduler tells us once more."""
    if urls := _ledgers(
        dag_run.dag or _dag_of(dag_run)
    ):  # the API of Airflow before 3.3 tells of a run without its DAG
        with _session_of(dag_run) as session:
            tasks = dag_run.get_task_instances(session=session)
        goes_on = any(ti.state not in State.finished for ti in tasks)
        owner = run_owner(dag_run.dag_id, dag_run.run_id)
        for url in urls:
            _later(_end_run, url, owner, succeeded, goes_on)


def look_again() -> None:
    """End what runs left that have ended meanwhile: the process that was to do it may have been killed before.

    Only the default connection's ledger is looked at; one that is away, later. It is done at once, since a thread that
    imports modules must not meet a scheduler that forks its workers.
    """
    hook = GangplanHook()
    if hook.names_ledger():
        try:
            _end_ended_runs(hook.ledger_url())
        except UnavailableError:
            _later(_end_ended_runs, hook.ledger_url())


def _end_ended_runs(url: str) -> None:
    """End what belongs to runs of this Airflow that have ended."""
    with reserve.open_ledger(url) as ledger:
        asked = [attempt for row in live(ledger, airflow_owner()) if (attempt := Attempt.read(row.attempt))]
    with create_session() as session:
        for dag_id, run_id in {(attempt.dag_id, attempt.run_id) for attempt in asked}:
            query = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
            run = session.scalar(query)
            if run is not None and run.state in State.finished_dr_states:
                goes_on = any(ti.state not in State.finished for ti in run.get_task_instances(session=session))
                _end_run(url, run_owner(dag_id, run_id), run.state == DagRunState.SUCCESS, goes_on)


def _end_task(url: str, of: Attempt) -> None:
    """End what a try of a task, or an earlier one, has not claimed."""
    with reserve.open_ledger(url) as ledger:
        end_leftovers(ledger, of.owner, lambda seen, row: seen.try_number <= of.try_number and not is_claimed(row))


def _end_run(url: str, owner: str, succeeded: bool, goes_on: bool) -> None:
    """End what a run has not claimed; what it has claimed a little later, for killed work may live on for so long."""
    with reserve.open_ledger(url) as ledger:
        end_leftovers(ledger, owner, lambda _, row: not is_claimed(row))
        left = [] if goes_on else leftovers(ledger, owner, lambda of, row: not (succeeded and outlives_run(of, row)))
        grace = load_settings().release_grace
        for row in left:
            _end_soon(ledger, row, grace + LATE)
    if left:
        timer = threading.Timer(grace.total_seconds(), _later, (_end_these, url, left))
        timer.daemon = True
        timer.start()


def _end_soon(ledger: Ledger, row: Reservation, lease: timedelta) -> None:
    """Shorten the lease of what nobody needs any more: the ledger ends it even if this process is gone by then."""
    if row.token is not None:
        with suppress(StaleTokenError):  # another try has taken it over in this moment
            ledger.renew(row.id, row.token, lease)


def _end_these(url: str, left: Sequence[Reservation]) -> None:
    """End what a run held when it ended; what a try of a run that was cleared has taken over since stays."""
    with reserve.open_ledger(url) as ledger:
        for row in left:
            end_leftover(ledger, row)


def _ledgers(dag: Any) -> set[str]:
    """Return the URLs of the ledgers that a DAG's tasks use, read from what Airflow keeps of the DAG."""
    names = {name for task in dag.tasks if (name := _connection_of(task))} if dag is not None else set()
    return {GangplanHook(name).ledger_url() for name in names}


def _connection_of(task: Any) -> str | None:
    """Return the connection of a task of ours; None for any other task."""
    ours = str(getattr(task, "_task_module", "")).startswith("gangplan_airflow.")
    return connection_of(task) or (GangplanHook.default_conn_name if ours else None)


def _task_of(ti: Any) -> Any:
    """Return the task of a task instance that Airflow ended, as it is kept."""
    if (task := getattr(ti, "task", None)) is not None:
        return task
    dag = _dag_of(ti)
    return dag.task_dict.get(ti.task_id) if dag is not None else None


def _dag_of(row: Any) -> Any:
    """Return the DAG of a run or a task instance as Airflow keeps it; None of one that was deleted."""
    with _session_of(row) as session:
        return SerializedDagModel.get_dag(row.dag_id, session=session)


def _session_of(row: Any) -> AbstractContextManager[Any]:
    """Return the session in which Airflow changes a row, for only that sees the change; one in none is kept already."""
    session = object_session(row)
    return create_session() if session is None else nullcontext(session)


def _later(job: Callable[..., None], *given: Any) -> None:
    """Do something in another thread: who tells us must not wait for the ledger."""
    _worker(os.getpid()).submit(_patiently, job, *given).add_done_callback(_tell)


def _patiently(job: Callable[..., None], *given: Any) -> None:
    """Do something; while the ledger is away, try again for a minute."""
    over = time.monotonic() + PATIENCE_S
    while True:
        try:
            return job(*given)
        except UnavailableError:
            if time.monotonic() > over:
                raise
            time.sleep(AGAIN_S)


@cache
def _worker(pid: int) -> ThreadPoolExecutor:
    """Return this process's thread for it."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="gangplan")


def _tell(done: Future[None]) -> None:
    """Log what could not be given back: claim time, lease and sweep do it later."""
    if error := done.exception():
        _log.error("what a task or run left in gangplan's ledger could not be given back now", exc_info=error)
