"""From an operator's rendered arguments to a GangRequest, with every wrong value named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, Protocol, TypeAlias

from pydantic import TypeAdapter, ValidationError

from gangplan.clock import parse_span
from gangplan.errors import InputError
from gangplan.types import GangRequest

Span: TypeAlias = timedelta | float | str

_REQUEST = TypeAdapter(GangRequest)
_FIELDS = tuple(field.name for field in fields(GangRequest))


class Asks(Protocol):
    """A task's rendered arguments: what ReserveGangOperator holds."""

    tenant: str
    accelerators: Sequence[str]
    pods: int | str
    gpus_per_pod: int | str
    duration: Span
    request_key: str
    options: Mapping[str, Any] | None


def key_template(task_id: str) -> str:
    """Return the request key of a task: the same on every retry, another in every run."""
    return f"airflow/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{task_id}/{{{{ ti.map_index }}}}"


def read_request(task: Asks) -> GangRequest:
    """Make a task's request; templates give text, so numbers and times may come as text."""
    pods = {"count": task.pods, "gpus_per_pod": task.gpus_per_pod}
    values = {
        "request_key": task.request_key,
        "tenant": task.tenant,
        "pod_sets": [pods],
        "accelerators": task.accelerators,
        "duration": task.duration,
        **(task.options or {}),
    }
    for name in values:
        if name not in _FIELDS:
            raise InputError("options", name, f"is no field of a request: use one of {', '.join(_FIELDS)}")
    spans = {name: read_span(name, values[name]) for name in ("duration", "walltime") if values.get(name) is not None}
    try:
        return _REQUEST.validate_python({**values, **spans})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(".".join(map(str, first["loc"])), first["input"], f"is refused: {first['msg']}") from None


def read_span(name: str, value: Span) -> timedelta:
    """Read a duration: a timedelta, seconds, or text like 30m."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_span(name, value)
    return timedelta(seconds=value)
