"""DAGs whose tasks the tests run step by step, and one with every shape that reserve and release may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, TaskGroup, get_current_context, task, task_group

from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.operators import ReleaseGangOperator, ReserveGangOperator

WHEN: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}
ASK: dict[str, Any] = {"tenant": "vision", "accelerators": ["h100"], "gpus_per_pod": 1, "duration": "1h"}


@task
def work(slots: dict[str, Any]) -> int:
    """Work on the slots, and say on how many GPUs."""
    with GangplanHook().hold(slots):
        return slots["gpus"]


@task(retries=1, retry_delay=timedelta(minutes=10))
def breaks_once(slots: dict[str, Any]) -> None:
    """Fail at the first try."""
    with GangplanHook().hold(slots):
        if get_current_context()["ti"].try_number == 1:
            raise RuntimeError("the work broke")


def a_gang(dag_id: str, work: Any = work, **given: Any) -> DAG:
    """Make a DAG: reserve all eight GPUs, work, release."""
    with DAG(dag_id, **WHEN) as dag:
        reserve = ReserveGangOperator(task_id="reserve", **{**ASK, "pods": 2, "gpus_per_pod": 4, **given})
        release = ReleaseGangOperator(task_id="release", reserve=reserve)
        reserve.as_setup() >> work(reserve.output) >> release.as_teardown(setups=reserve)
    return dag


@task
def plain(slots: dict[str, Any] | None) -> None:
    """Work that knows nothing of leases."""
    print("at work on", slots and slots["gpus"])


gang = a_gang("gang")
bare = a_gang("bare", plain)
tried_twice = a_gang("tried_twice", retries=1, retry_delay=timedelta(0))
retried_work = a_gang("retried_work", breaks_once, duration="1m", options={"walltime": "1h"})
short_work = a_gang("short_work", breaks_once, duration="1m")
wrong = a_gang("wrong", pods="many", retries=3)
named = a_gang("named", request_key="nightly")
timed = a_gang("timed", execution_timeout=timedelta(minutes=3))


with DAG("in_turn", **WHEN) as in_turn:
    works = []
    for turn in ("first", "second"):
        reserve = ReserveGangOperator(task_id=f"{turn}_reserve", **ASK, pods=8)
        works.append(plain.override(task_id=turn)(reserve.output))
        release = ReleaseGangOperator(task_id=f"{turn}_release", reserve=reserve)
        reserve.as_setup() >> works[-1] >> release.as_teardown(setups=reserve)
    works[0] >> reserve


def a_reserve(dag_id: str, **given: Any) -> DAG:
    """Make a DAG of a reserve task alone."""
    with DAG(dag_id, **WHEN) as dag:
        ReserveGangOperator(task_id="reserve", pods=4, **ASK, **given)
    return dag


alone = a_reserve("alone")
handed_on = a_reserve("handed_on", request_key="handed on")

with DAG("shapes", **WHEN) as shapes:
    with TaskGroup("one_release"):
        reserve = ReserveGangOperator.partial(task_id="reserve", **ASK).expand(pods=[1, 1])
        release = ReleaseGangOperator(task_id="release", reserve=reserve)
        reserve.as_setup() >> work.expand(slots=reserve.output) >> release.as_teardown(setups=reserve)
    with TaskGroup("keyed_releases"):
        reserve = ReserveGangOperator.partial(task_id="reserve", **ASK).expand(pods=[1, 1])
        keys = reserve.output.map(lambda slots: slots["key"])
        release = ReleaseGangOperator.partial(task_id="release").expand(request_key=keys)
        reserve.as_setup() >> work.expand(slots=reserve.output) >> release.as_teardown(setups=reserve)
    with TaskGroup("mapped_releases"):
        reserve = ReserveGangOperator.partial(task_id="reserve", **ASK).expand(pods=[1])
        release = ReleaseGangOperator.partial(task_id="release").expand(slots=reserve.output)
        reserve.as_setup() >> work.expand(slots=reserve.output) >> release.as_teardown(setups=reserve)

    @task_group
    def trial(pods: int) -> None:
        """Reserve, work, release, each in every map index."""
        reserve = ReserveGangOperator(task_id="reserve", pods=pods, **ASK)
        release = ReleaseGangOperator(task_id="release", reserve=reserve)
        reserve.as_setup() >> work(reserve.output) >> release.as_teardown(setups=reserve)

    trial.expand(pods=[1])
    with TaskGroup("here"):
        elsewhere = ReserveGangOperator(task_id="reserve", pods=1, **ASK)
    with TaskGroup("there"):
        work(elsewhere.output) >> ReleaseGangOperator(task_id="release", reserve=elsewhere)
    by_key = ReserveGangOperator(task_id="by_key", pods=1, request_key="of {{ run_id }}", **ASK)
    by_key >> ReleaseGangOperator(task_id="release_by_key", request_key="of {{ run_id }}")
