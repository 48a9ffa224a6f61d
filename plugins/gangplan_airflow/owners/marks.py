"""How gangplan's tasks are known, and the sign that the process of work on slots has ended; every task loads this."""

from __future__ import annotations

from typing import Any

ENDED_ITSELF = "gangplan_ended"
"""The key of the XCom that the process of a task between a reserve task and its release leaves as its last act."""


def is_ours(task: Any) -> bool:
    """Tell whether a task is one of gangplan's operators, or of a class made from one."""
    kind = getattr(task, "operator_class", type(task))
    return any(base.__module__.startswith("gangplan_airflow.") for base in getattr(kind, "__mro__", ()))


def connection_of(task: Any) -> str | None:
    """Return the name of a task's gangplan connection, mapped or not; None where it names none."""
    return getattr(task, "partial_kwargs", {}).get("gangplan_conn_id") or getattr(task, "gangplan_conn_id", None)


def is_between(task: Any) -> bool:
    """Tell whether a task comes after one of ours and before another: work on slots, with those that come along."""
    return not is_ours(task) and all(map(_has_ours, (task.get_flat_relatives(upstream=up) for up in (True, False))))


def _has_ours(tasks: Any) -> bool:
    """Tell whether one of the tasks is ours."""
    return any(map(is_ours, tasks))
