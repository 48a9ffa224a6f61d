"""What Airflow tells of tasks and runs that end, so that no slot of theirs stays behind.

Airflow calls these in the process of a task for its own end, in the scheduler and the API server for runs, and in the
API server for what a user marks. One that was killed tells nobody, so a scheduler that starts looks again at the runs
that have ended. Every process of every task loads this module, so it imports what it needs when it needs it. (A run
that is deleted tells nobody: there is the claim time, the lease, the sweep.)
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from gangplan_airflow.owners import ENDED_ITSELF, is_between, is_ours


@hookimpl
def on_starting(component: Any) -> None:
    """Hear of a process that starts: a scheduler, a triggerer or a DAG processor, but not that of a task."""
    if type(component).__module__ == "airflow.jobs.job":
        from gangplan_airflow.owners import look_again

        look_again()


@hookimpl
def on_task_instance_running(task_instance: Any) -> None:
    """Hear of a task that begins, in its own process."""
    if _in_own_process(task_instance) and is_between(task_instance.task):
        from gangplan_airflow.owners import refuse_without_slots

        refuse_without_slots(task_instance)


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Hear of a task that succeeded, or was marked so."""
    _task_ended(task_instance, failed=False)


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Hear of a task that failed, or was marked so."""
    _task_ended(task_instance, failed=True)


@hookimpl
def on_task_instance_skipped(task_instance: Any) -> None:
    """Hear of a task that was skipped, or was marked so."""
    _task_ended(task_instance, failed=True)


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Hear of a run that succeeded."""
    from gangplan_airflow.owners import run_ended

    run_ended(dag_run, succeeded=True)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Hear of a run that failed."""
    from gangplan_airflow.owners import run_ended

    run_ended(dag_run, succeeded=False)


def _task_ended(ti: Any, *, failed: bool) -> None:
    """Act for a task in its own process, or for one that Airflow ended from elsewhere."""
    if _in_own_process(ti):
        _own_end(ti, failed=failed)
    elif ti.state != "up_for_retry":
        from gangplan_airflow.owners import task_ended

        task_ended(ti)


def _in_own_process(ti: Any) -> bool:
    """Tell whether a task's own process tells of it."""
    return type(ti).__module__.startswith("airflow.sdk.")


def _own_end(ti: Any, *, failed: bool) -> None:
    """Say that the process of work on slots ends; give back what a reserve task failed with."""
    if is_ours(ti.task):
        if failed:
            ti.task.on_kill()
    elif is_between(ti.task):
        ti.xcom_push(ENDED_ITSELF, True)
