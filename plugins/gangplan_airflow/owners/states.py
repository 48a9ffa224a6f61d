"""What Airflow says about task instances and runs, asked by tasks and by triggers.

What runs tasks is imported where it is asked: a DAG processor that reads a file needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gangplan_airflow.attempts import Attempt

GONE = "removed"
"""The state of a task instance that Airflow does not know (any more), as that of one which its DAG has lost."""

ENDED = ("success", "failed", "skipped", "upstream_failed", GONE)
"""The states in which nobody waits for slots; a task that was cleared is in none of them."""

LOST = tuple(state for state in ENDED if state != "success")
"""The states in which nobody will use the slots of a reserve task."""


async def state_of(attempt: Attempt) -> str | None:
    """Return the state of a task instance, in a trigger; None is that of one that was cleared."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetTaskStates

    asked = GetTaskStates(
        dag_id=attempt.dag_id, task_ids=[attempt.task_id], run_ids=[attempt.run_id], map_index=attempt.map_index
    )
    return _state(await task_runner.SUPERVISOR_COMMS.asend(asked), attempt)


def states_of_run(dag_id: str, run_id: str, task_ids: list[str] | None = None) -> dict[str, str | None]:
    """Return the states of a run's task instances by Airflow's names for them (`task`, `task_<map index>`), in a task.

    It is empty for a run that was deleted.
    """
    from airflow.sdk.execution_time import task_runner

    states = task_runner.RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=task_ids, run_ids=[run_id])
    return states.get(run_id, {})


def _state(answer: Any, attempt: Attempt) -> str | None:
    """Read one state out of Airflow's answer."""
    states: Mapping[str, str | None] = answer.task_states.get(attempt.run_id, {})
    return states.get(attempt.name, GONE)


def can_end_here() -> bool:
    """Tell whether a triggerer runs us; `airflow dags test` and `airflow tasks test` run a trigger without one."""
    from airflow.sdk.execution_time import task_runner

    return hasattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "asend")


async def push(attempt: Attempt, value: dict[str, Any]) -> None:
    """Keep what a task returns, in a trigger. (What a trigger's own event brings is encoded twice in Airflow 3.3.)"""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SetXCom
    from airflow.sdk.execution_time.xcom import XCom

    of = {
        "key": "return_value",
        "dag_id": attempt.dag_id,
        "task_id": attempt.task_id,
        "run_id": attempt.run_id,
        "map_index": attempt.map_index,
    }
    await task_runner.SUPERVISOR_COMMS.asend(SetXCom(value=XCom.serialize_value(value, **of), **of))
