"""The loads of `make bench-airflow`: waits, a line, and a reservation beside an Airflow pool slot."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, task

from gangplan_airflow import GangplanHook, ReleaseGangOperator, ReserveGangOperator

WHEN: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}
GANG: dict[str, Any] = {"accelerators": ["h100"], "pods": 1, "duration": "10m", "wait_timeout": "6h"}
WAITING = int(os.environ.get("GANGPLAN_BENCH_WAITING", "10"))
WORK_S = float(os.environ.get("GANGPLAN_BENCH_WORK_S", "1"))


@task
def work(slots: dict[str, Any] | None, run_id: str | None = None) -> None:
    """Be at work on the slots, and renew their lease."""
    from benchmarks.parts.airflow.work import work

    if slots is None:
        return work(slots, run_id or "", WORK_S)
    with GangplanHook().hold(slots) as held:
        return work(slots, run_id or "", WORK_S, held.check)


with DAG("bench_wait", **WHEN):
    ReserveGangOperator.partial(task_id="reserve", gpus_per_pod=1, **GANG).expand(tenant=["bench"] * WAITING)


with DAG("bench_line", **WHEN):
    reserve = ReserveGangOperator(task_id="reserve", tenant="bench", gpus_per_pod=4, **GANG)
    release = ReleaseGangOperator(task_id="release", reserve=reserve)
    reserve.as_setup() >> work(reserve.output) >> release.as_teardown(setups=reserve)


with DAG("bench_pool", **WHEN):
    work.override(pool="bench")(None)
