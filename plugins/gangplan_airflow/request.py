"""From an operator's rendered arguments to a GangRequest, with every wrong value named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

from gangplan.clock import parse_span
from gangplan.errors import InputError
from gangplan.types import GangRequest, request_from

Span: TypeAlias = timedelta | float | str

WISHED = ("priority_class", "preemptible", "checkpoint", "topology", "speed", "slot", "deadline")
"""The fields of a request that a task may name itself; its `options` take the others."""


class Asks(Protocol):
    """A task's rendered arguments: what ReserveGangOperator holds."""

    tenant: str
    accelerators: Sequence[str]
    pods: int | str
    gpus_per_pod: int | str
    min_pods: int | str | None
    max_pods: int | str | None
    duration: Span
    priority_class: str
    preemptible: bool | str
    checkpoint: Span | None
    topology: str
    speed: Mapping[str, float | str] | None
    slot: str
    deadline: datetime | str | None
    request_key: str
    options: Mapping[str, Any] | None


def key_template(task_id: str) -> str:
    """Return the request key of a task: the same on every retry, another in every run."""
    return f"airflow/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{task_id}/{{{{ ti.map_index }}}}"


def read_request(task: Asks) -> GangRequest:
    """Make a task's request; templates give text, so numbers and times may come as text."""
    values = _named(task)
    for name, value in (task.options or {}).items():
        if name in values and name != "pod_sets":
            raise InputError(f"options[{name}]", value, f"is given twice: {name} is an argument of its own")
        values[name] = value
    return request_from(values, called={"request": "options"})


def _named(task: Asks) -> dict[str, Any]:
    """Return the request's fields that are arguments of their own, those that were given."""
    pods = {"count": task.pods, "gpus_per_pod": task.gpus_per_pod}
    bounds = {"min_count": task.min_pods, "max_count": task.max_pods}
    wished = {name: getattr(task, name) for name in WISHED}
    return {
        **{name: getattr(task, name) for name in ("request_key", "tenant", "accelerators", "duration")},
        "pod_sets": [pods | bounds],
        **{name: value for name, value in wished.items() if value not in (None, "", False)},
    }


def read_span(name: str, value: Span) -> timedelta:
    """Read a duration: a timedelta, seconds, or text like 30m."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_span(name, value)
    return timedelta(seconds=value)
