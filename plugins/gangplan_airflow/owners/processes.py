"""Whether the processes of the work between a reserve task and its release are gone.

A task that was marked failed or succeeded by a user lives on for some seconds: its slots must not be another's
meanwhile. A process that ends by itself says so as its last act (see `gangplan_airflow.listener`); the release waits
for those who have not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gangplan_airflow.attempts import ti_of
from gangplan_airflow.owners.marks import ENDED_ITSELF, is_ours
from gangplan_airflow.owners.states import states_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.operator import BaseOperator

RAN = ("success", "failed")
POLL_S = 1.0


def wait_until_gone(release: BaseOperator, reserves: Sequence[Any], context: Context, grace: timedelta) -> None:
    """Wait until all work between reserve tasks and their release has ended by itself, at most for the grace."""
    works = _between(release, reserves)
    until = time.monotonic() + grace.total_seconds()
    said = False
    while works and (left := _living(works, context)) and (pause := until - time.monotonic()) > 0:
        if not said:
            release.log.warning("%s did not end by itself; its process may live on, so the slots are kept", left)
            said = True
        time.sleep(min(POLL_S, pause))


def _between(release: BaseOperator, reserves: Sequence[Any]) -> list[str]:
    """Return the tasks with a process of their own that come after a reserve task and before its release."""
    after = {task_id for reserve in reserves for task_id in reserve.get_flat_relative_ids(upstream=False)}
    before = release.get_flat_relatives(upstream=True)
    return [task.task_id for task in before if task.task_id in after and not is_ours(task) and _has_process(task)]


def _has_process(task: Any) -> bool:
    """Tell whether a task runs at all: the scheduler ends empty ones by itself."""
    return not getattr(task, "inherits_from_empty_operator", False)


def _living(works: Sequence[str], context: Context) -> list[str]:
    """Return the tasks of which an instance ran and did not say that it ended."""
    ti = ti_of(context)
    states = states_of_run(ti.dag_id, ti.run_id, list(works))
    return [work for work in works if _lives(ti, work, states)]


def _lives(ti: Any, work: str, states: dict[str, str | None]) -> bool:
    """Tell whether an instance of a task ran and did not say that it ended; in a mapped group, that beside the release.

    A worker that has not loaded our plugin hears nothing: then only a success counts as an end.
    """
    own = f"{work}_{ti.map_index}" in states
    names = [f"{work}_{ti.map_index}"] if own else [name for name in states if _is_of(name, work)]
    if "gangplan_airflow.listener" not in sys.modules:
        return any(states[name] == "failed" for name in names)
    ran = sum(states[name] in RAN for name in names)
    index = {"map_indexes": ti.map_index} if own else {}
    said = ti.xcom_pull(task_ids=[work], key=ENDED_ITSELF, **index) if ran else []
    return ran > sum(one is not None for one in said)


def _is_of(name: str, work: str) -> bool:
    """Tell whether Airflow's name of a task instance is that of a task, in whichever map index."""
    return name == work or (name.startswith(f"{work}_") and name[len(work) + 1 :].isdigit())
