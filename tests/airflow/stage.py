"""A DAG run in Airflow's database whose tasks and triggers a test runs step by step, with Airflow's own code.

Tasks run through Airflow's task runner and its Execution API, triggers in its trigger runner; what a scheduler, a
worker and a triggerer would do between them, the test does.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar

import attrs
import psutil
import structlog
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.jobs import triggerer_job_runner
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import TaskInstance as WorkerTaskInstance
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import (
    InProcessSupervisorComms,
    InProcessTestSupervisor,
    run_task_in_process,
    set_supervisor_comms,
)
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from tests.airflow.versions import AIRFLOW

from gangplan.clock import parse_utc
from gangplan.config import present
from gangplan_airflow.trigger import GangGrantedTrigger

try:
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag as BundleDagBag, sync_bag_to_db
    from airflow.serialization.serialized_objects import smart_decode_trigger_kwargs

USER_ACTION = getattr(triggerer_job_runner, "_USER_ACTION_CANCEL_MSG", None)
"""What a triggerer cancels a trigger with that a user has ended; before 3.3 nothing."""

T = TypeVar("T")
Act = Callable[[], object]


def nothing() -> None:
    """Do nothing."""


def a_context(task_id: str = "reserve", try_number: int = 1, map_index: int = -1, **more: Any) -> Any:
    """The context of a try of a task, as far as the operators read it."""
    of = {"dag_id": "dag", "run_id": "run", "task_id": task_id, "map_index": map_index, "try_number": try_number}
    return {"ti": SimpleNamespace(**of, start_date=present(), **more)}


def keep_dags() -> None:
    """Let Airflow keep the DAGs of its bundles in its database, as a DAG processor does."""
    manager = DagBundlesManager()
    with create_session() as session:
        manager.sync_bundles_to_db(session=session)
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        of = {"bundle_name": bundle.name} if AIRFLOW > (3, 1) else {}
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, **of)
        sync_bag_to_db(bag, bundle.name, bundle.version)


class Run:
    """A run of a DAG."""

    def __init__(self, dag: DAG, run_id: str = "") -> None:
        self.dag = dag
        self.run_id = run_id or f"manual__{uuid.uuid4()}"
        now = present()
        with create_session() as session:
            kept = SerializedDagModel.get_dag(dag.dag_id, session=session)
            assert kept is not None
            kept.create_dagrun(
                run_id=self.run_id,
                logical_date=now,
                data_interval=(now, now),
                run_after=now,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                start_date=now,
                session=session,
            )

    def execute(self, task_id: str, map_index: int = -1, *, again: bool = True) -> str:
        """Run a task as a worker does, as the next try or (`again=False`) as the one that it was; return its state."""
        with self._row(task_id, map_index) as row:
            row.try_number += again
            row.state = TaskInstanceState.QUEUED
            told = {name: getattr(row, name) for name in ("task_id", "dag_id", "run_id", "try_number", "map_index")}
            ti = WorkerTaskInstance(id=row.id, dag_version_id=row.dag_version_id, **told)
        run_task_in_process(ti=ti, task=self.dag.task_dict[task_id])
        return self.state(task_id, map_index)

    def state(self, task_id: str, map_index: int = -1) -> str:
        """Return the state of a task."""
        with self._row(task_id, map_index) as row:
            return str(row.state)

    def mark(self, task_id: str, state: TaskInstanceState | None, map_index: int = -1) -> None:
        """Give a task another state, and take its trigger away, as a user's mark does; nobody is told."""
        with self._row(task_id, map_index) as row:
            row.state = state
            row.trigger_id = None

    def clear(self, task_id: str) -> None:
        """Clear a task."""
        with create_session() as session:
            clear_task_instances([self._of(session, task_id)], session=session)

    def returned(self, task_id: str, map_index: int = -1) -> Any:
        """Return what a task returned."""
        with create_session() as session:
            of = {"task_ids": task_id, "dag_ids": self.dag.dag_id, "map_indexes": map_index}
            found = session.scalars(XComModel.get_many(key="return_value", run_id=self.run_id, **of)).first()
            return None if found is None else XComModel.deserialize_value(found)

    def ended(self, state: DagRunState) -> None:
        """End the run as the scheduler does: its listeners hear of it."""
        with create_session() as session:
            row = session.query(DagRun).filter(DagRun.run_id == self.run_id).one()
            row.dag = SerializedDagModel.get_dag(self.dag.dag_id, session=session)
            row.state = state
            row.notify_dagrun_state_changed(msg="ended")

    def set_state(self, state: DagRunState) -> None:
        """Give the run a state of which nobody is told."""
        with create_session() as session:
            session.query(DagRun).filter(DagRun.run_id == self.run_id).one().state = state

    def ask(self, question: Callable[[Any], T]) -> T:
        """Ask something in a task of this run, whose questions Airflow answers."""
        with _answers(InProcessSupervisorComms):
            return question(task_runner.RuntimeTaskInstance)

    def delete(self) -> None:
        """Delete the run."""
        with create_session() as session:
            session.delete(session.query(DagRun).filter(DagRun.run_id == self.run_id).one())

    @contextmanager
    def _row(self, task_id: str, map_index: int = -1) -> Generator[TaskInstance]:
        """Give the row of a task, and keep what is changed in it."""
        with create_session() as session:
            yield self._of(session, task_id, map_index)

    def _of(self, session: Any, task_id: str, map_index: int = -1) -> TaskInstance:
        """Return the row of a task."""
        of = {"dag_id": self.dag.dag_id, "run_id": self.run_id, "task_id": task_id, "map_index": map_index}
        return session.query(TaskInstance).filter_by(**of).one()


class Waiting:
    """A deferred task's trigger in a triggerer, made again from what Airflow keeps of it."""

    def __init__(self, run: Run, task_id: str = "reserve") -> None:
        self.run = run
        with run._row(task_id) as row:
            assert row.state == TaskInstanceState.DEFERRED
            kept = Trigger.bulk_fetch({row.trigger_id})[row.trigger_id]
            self.id = row.trigger_id
            told = {name: getattr(row, name) for name in ("task_id", "dag_id", "run_id", "try_number", "map_index")}
            self._ti = WorkerTaskInstance(id=row.id, dag_version_id=row.dag_version_id, **told)
        arguments = {name: smart_decode_trigger_kwargs(value) for name, value in kept.kwargs.items()}
        self.trigger = GangGrantedTrigger(**arguments)
        self.trigger.task_instance = self._ti
        self._runner = TriggerRunner()
        self._runner.triggers[self.id] = {"name": "a trigger", "events": 0}  # type: ignore[typeddict-item]

    @staticmethod
    def until_of(of: Any) -> datetime:
        """Return until when a trigger waits."""
        return parse_utc("until", of.until)

    def until_over(self, meanwhile: Act = nothing, *, before_told: Act = nothing) -> None:
        """Run it to its end, doing something once it waits; tell Airflow what it fired, and perhaps act before that."""

        async def over(running: asyncio.Task[None]) -> None:
            await asyncio.wait_for(running, 120)
            before_told()
            for entry in self._runner.events:
                Trigger.submit_event(entry[0], entry[1])
            if before_told is not nothing:
                await self.trigger._arrives()

        self._run(meanwhile, over)

    def until_stopped(self, meanwhile: Act = nothing, *, by_user: bool = True) -> None:
        """Run it, do something once it waits, and cancel it as a triggerer does after a user's act or when it stops."""

        async def stopped(running: asyncio.Task[None]) -> None:
            running.cancel(*([USER_ACTION] if by_user and USER_ACTION else []))
            await asyncio.wait([running], timeout=120)
            assert running.done()

        self._run(meanwhile, stopped)

    def _run(self, meanwhile: Act, then: Callable[[asyncio.Task[None]], Coroutine[Any, Any, None]]) -> None:
        """Run the trigger in Airflow's trigger runner, with the Execution API behind it."""
        follows = asyncio.Event()
        follow = self.trigger._follow

        async def noted(news: asyncio.Queue[Any]) -> None:
            follows.set()
            await follow(news)

        async def all_of_it() -> None:
            running = asyncio.create_task(self._runner.run_trigger(self.id, self.trigger))
            started = asyncio.create_task(follows.wait())
            await asyncio.wait([running, started], timeout=60, return_when=asyncio.FIRST_COMPLETED)
            meanwhile()
            await then(running)

        self.trigger._follow = noted  # type: ignore[method-assign]
        with _answers(_Comms):
            asyncio.run(all_of_it())


@contextmanager
def _answers(comms: type[InProcessSupervisorComms]) -> Generator[None]:
    """Let Airflow's Execution API answer what is asked in the block."""
    supervisor = InProcessTestSupervisor(
        id=uuid.uuid4(),
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=structlog.get_logger(logger_name="task"),
        client=InProcessTestSupervisor._api_client(),
    )
    supervisor.comms = comms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield


@attrs.define(kw_only=True)
class _Comms(InProcessSupervisorComms):
    """A trigger's calls, answered in this process; a triggerer's are asynchronous."""

    async def asend(self, msg: Any) -> Any:
        """Ask, and return the answer."""
        return self.send(msg)
