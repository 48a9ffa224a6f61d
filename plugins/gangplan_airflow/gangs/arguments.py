"""The arguments of a gang, named as those of ReserveGangOperator, as editors and type checkers complete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Required, TypedDict

from gangplan_airflow.operators import Span


class GangArguments(TypedDict, total=False):
    """What a gang is asked with; `task_args` are further arguments of the reserve task, such as its retries."""

    tenant: Required[str]
    accelerators: Required[Sequence[str]]
    pods: Required[int | str]
    gpus_per_pod: Required[int | str]
    duration: Required[Span]
    min_pods: int | str | None
    max_pods: int | str | None
    priority_class: str
    preemptible: bool | str
    checkpoint: Span | None
    topology: str
    speed: Mapping[str, float | str] | None
    slot: str
    deadline: datetime | str | None
    wait_timeout: Span
    request_key: str | None
    options: Mapping[str, Any] | None
    gangplan_conn_id: str
    task_args: Mapping[str, Any]
