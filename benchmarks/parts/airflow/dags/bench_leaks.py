"""The DAGs of the faults: a plain gang, work that renews nothing, mapped gangs, work that breaks once, a `gang`."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task, task_group

from gangplan_airflow import GangplanHook, ReleaseGangOperator, ReserveGangOperator, gang as gang_of

WHEN: dict[str, Any] = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "default_args": {"retries": 3, "retry_delay": timedelta(seconds=1)},
}
GANG: dict[str, Any] = {
    "tenant": "bench",
    "accelerators": ["h100"],
    "gpus_per_pod": 4,
    "duration": "5m",
    "wait_timeout": "1h",
}


@task
def work(slots: dict[str, Any] | None, run_id: str | None = None, breaks: bool = False, ti: Any = None) -> None:
    """Be at work on the slots for one to three seconds, and renew their lease."""
    from benchmarks.parts.airflow.work import work

    seconds = 1 + zlib.crc32(str(run_id).encode()) % 200 / 100
    with GangplanHook().hold(slots or {}) as held:
        work(slots, run_id or "", seconds, held.check)
    if breaks and ti.try_number == 1:
        raise RuntimeError("the work broke")


@task
def bare(slots: dict[str, Any] | None, run_id: str | None = None) -> None:
    """Be at work on the slots, as code does that knows nothing of leases."""
    from benchmarks.parts.airflow.work import work

    work(slots, run_id or "", 1 + zlib.crc32(str(run_id).encode()) % 200 / 100)


def gang(pods: int) -> tuple[ReserveGangOperator, ReleaseGangOperator]:
    """Make the tasks that reserve and release."""
    reserve = ReserveGangOperator(task_id="reserve", pods=pods, **GANG)
    return reserve, ReleaseGangOperator(task_id="release", reserve=reserve)


with DAG("bench_plain", **WHEN):
    reserve, release = gang(pods=2)
    reserve.as_setup() >> work(reserve.output) >> release.as_teardown(setups=reserve)

with DAG("bench_bare", **WHEN):
    reserve, release = gang(pods=1)
    reserve.as_setup() >> bare(reserve.output) >> release.as_teardown(setups=reserve)

with DAG("bench_breaks", **WHEN):
    reserve, release = gang(pods=1)
    reserve.as_setup() >> work(reserve.output, breaks=True) >> release.as_teardown(setups=reserve)

with DAG("bench_mapped", **WHEN):

    @task_group
    def each(index: int) -> None:
        """Reserve, work, release, for one of two."""
        reserve, release = gang(pods=1)
        reserve.as_setup() >> work(reserve.output) >> release.as_teardown(setups=reserve)

    each.expand(index=[0, 1])

with DAG("bench_gang", **WHEN), gang_of("big", pods=1, **GANG) as slots:
    bare(slots)
