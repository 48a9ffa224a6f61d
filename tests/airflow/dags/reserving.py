"""DAGs as the README shows one, each with what its test needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, task

from gangplan_airflow.operators import ReleaseGangOperator, ReserveGangOperator


@task
def work(slots: dict[str, Any], breaks: bool) -> int:
    """Work on the slots, or break."""
    if breaks:
        raise RuntimeError("the work broke")
    return slots["gpus"]


def reserving(dag_id: str, *, breaks: bool = False, **given: Any) -> DAG:
    """Make a DAG: reserve, work, release."""
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False) as dag:
        arguments: dict[str, Any] = {"pods": 2, "duration": "1h", **given}
        reserve = ReserveGangOperator(
            task_id="reserve", tenant="vision", accelerators=["h100"], gpus_per_pod=4, **arguments
        )
        release = ReleaseGangOperator(task_id="release", reserve=reserve)
        reserve.as_setup() >> work(reserve.output, breaks) >> release.as_teardown(setups=reserve)
    return dag


granted = reserving("granted")
waits = reserving("waits")
late = reserving("late", wait_timeout="1s")
broken = reserving("broken", breaks=True)
templated = reserving("templated", pods="{{ 1 + 1 }}", duration="{{ 30 }}m", options={"priority": "{{ 7 }}"})
