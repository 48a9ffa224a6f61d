"""Work without slots, because its reserve task was marked as a success while it waited: it must not run on another's.

(What an earlier try of the reserve task returned, which was cleared since, may still be there.) Work that holds its
slots is refused by that; this is for tasks that know nothing of leases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gangplan_airflow.attempts import ti_of
from gangplan_airflow.owners.states import states_of_run


def refuse_without_slots(ti: Any) -> None:
    """Let a task look for its slots before its first line; called in its own process, before it runs."""
    if _holds(ti.task._pre_execute_hook):
        return
    if reserves := _reserves_of(ti.task):
        ti.task._pre_execute_hook = partial(_begin, reserves, ti.task._pre_execute_hook)


def _holds(hook: Any) -> bool:
    """Tell whether a task's own hook takes its slots before its first line: then that refuses, and asks only once."""
    return getattr(getattr(hook, "__self__", hook), "holds_slots", False)


def _begin(reserves: Sequence[Any], own: Any, context: Any) -> None:
    """Look for the slots, then do what the task itself does first."""
    for reserve in reserves:
        _require_slots(reserve, context)
    if own is not None:
        own(context)


def _require_slots(reserve: Any, context: Any) -> None:
    """Refuse to work when a reserve task succeeded and returned no slots.

    One that failed or was skipped is the trigger rule's matter: a task that runs all the same wants to.
    """
    from gangplan_airflow.hook import GangplanHook, require_held, require_slots

    if slots := reserve.output.resolve(context):
        if isinstance(slots, Mapping) and not reserve.is_mapped:
            require_held(GangplanHook(reserve.render_template(reserve.gangplan_conn_id, context)), slots)
        return
    ti = ti_of(context)
    if "success" in states_of_run(ti.dag_id, ti.run_id, [reserve.task_id]).values():
        require_slots(None)


def _reserves_of(task: Any) -> list[Any]:
    """Return the reserve tasks before a task whose release comes after it.

    (In a DAG with one gang after another, those of earlier gangs come before it, too: it works on the last one's slots,
    and does not wait for the release of the others.)
    """
    from gangplan_airflow.operators import is_reserve

    after = {getattr(one, "reserve_task_id", None) for one in task.get_flat_relatives(upstream=False)}
    return [one for one in task.get_flat_relatives(upstream=True) if is_reserve(one) and one.task_id in after]
