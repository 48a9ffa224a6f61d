"""The arguments of a gang, named as those of ReserveGangOperator, as editors and type checkers complete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Required, TypedDict

from gangplan_airflow.operators import OnTimeout, Span


class GangArguments(TypedDict, total=False):
    """What a gang is asked with; `reserve_args` are those that every operator has, for the reserve task."""

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
    earliest_start: datetime | str | None
    latest_start: datetime | str | None
    deadline: datetime | str | None
    wait_timeout: Span
    on_timeout: OnTimeout
    request_key: str | None
    options: Mapping[str, Any] | None
    gangplan_conn_id: str
    reserve_args: Mapping[str, Any]


class GangTaskArguments(GangArguments, total=False):
    """The arguments of `@task.gang`: those of a gang, and what a task is most often given; others are taken, too."""

    task_id: str
    retries: int
    retry_delay: timedelta | float
    execution_timeout: timedelta | None
    multiple_outputs: bool
    executor: str
    executor_config: dict[str, Any]
    queue: str
    pool: str
    priority_weight: int
    trigger_rule: str
    doc_md: str
    task_display_name: str
