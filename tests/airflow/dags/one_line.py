"""DAGs with a gang in one line, each with what its test needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task, task_group

from gangplan_airflow import gang, hold

GANG: dict[str, Any] = {"tenant": "vision", "accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": "1h"}


def a_dag(dag_id: str) -> DAG:
    """A DAG that runs when it is told to."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)


@task
def held_nodes() -> list[str]:
    """Hold the slots of the gang that this task is in, and return their nodes."""
    with hold() as held:
        held.check()
    return ["held"]


@task
def count(nodes: list[str], slots: dict[str, Any]) -> int:
    """Look at the slots that it is given, and at one field of them."""
    assert nodes == slots["nodes"]
    return slots["gpus"]


@task
def prepare() -> int:
    """Prepare what the work needs."""
    return 7


@task
def use(data: int) -> int:
    """Use what was prepared."""
    return data


@task
def report(gpus: int) -> int:
    """Follow the gang."""
    return gpus


with a_dag("one_line") as one_line:
    data = prepare()
    with gang("big", **GANG) as slots:
        held_nodes() >> use(data)
        gpus = count(slots["nodes"], slots)
    report(gpus)

with a_dag("one_line_breaks") as one_line_breaks:

    @task
    def breaks() -> None:
        """Break."""
        raise RuntimeError("the work broke")

    with gang("big", **GANG):
        breaks()

with a_dag("each_its_gang") as each_its_gang:

    @task_group
    def one(pods: int) -> None:
        """Work on a gang of so many pods."""
        with gang("own", **{**GANG, "pods": pods}) as slots:
            count(slots["nodes"], slots)

    one.expand(pods=[1, 1])

with a_dag("many_on_one") as many_on_one, gang("big", **GANG):
    use.expand(data=[1, 2, 3])


@task.gang(**GANG, task_id="train", retries=1, retry_delay=timedelta(seconds=1))
def train(factor: int, held: Any, slots: dict[str, Any], ti: Any = None) -> int:
    """Break in the first try; then work on the slots."""
    held.check()
    if ti.try_number == 1:
        raise RuntimeError("the work broke")
    return factor * slots["gpus"]


with a_dag("decorated") as decorated:
    ready = prepare()
    done = train(2)
    ready >> done
    report(done)


@task.gang(**{**GANG, "pods": 1})
def each(factor: int) -> int:
    """Work on a gang of its own."""
    return factor


with a_dag("decorated_each") as decorated_each:
    each.expand(factor=[1, 2])

with a_dag("in_vain") as in_vain:
    with gang("skipped", **GANG, wait_timeout="1s", on_timeout="skip"):
        use.override(task_id="skips")(1)
    with gang("anyway", **GANG, wait_timeout="1s", on_timeout="run_anyway") as slots:
        count(slots["nodes"], slots)
