"""A training that runs as a Kubernetes Job on slots that Kueue keeps: reserve (a setup), the Job, release (a teardown).

The connection's ledger must be on Kueue: kueue://<context>/<namespace>/<LocalQueue>.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task

from gangplan_airflow import GangplanHook, ReleaseGangOperator, ReserveGangOperator

PODS, GPUS = 2, 4


@task
def train(slots: dict[str, Any], name: str) -> dict[str, Any]:
    """Run the Job to its end where the reservation is; its lease is renewed meanwhile."""
    from gangplan.client import hold
    from gangplan.reserve import run_beside

    container = {
        "name": "train",
        "image": "busybox",
        "command": ["true"],
        "resources": {"limits": {"nvidia.com/gpu": str(GPUS)}},
    }
    pods = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"parallelism": PODS, "completions": PODS, "backoffLimit": 0, "template": pods}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    with GangplanHook().get_conn() as ledger, hold(ledger, slots["id"], slots["token"]) as held:
        ended = run_beside(ledger, slots["id"], job, check=held.check)
    return {"succeeded": ended["status"]["succeeded"], "nodes": slots["nodes"]}


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["gangplan"], doc_md=__doc__)
def example_reserved_job() -> None:
    """Reserve 2 pods x 4 GPUs, train on them as a Job, release them."""
    reserve = ReserveGangOperator(
        task_id="reserve",
        tenant="vision",
        accelerators=["h100"],
        pods=PODS,
        gpus_per_pod=GPUS,
        duration="10m",
        wait_timeout="10m",
    )
    release = ReleaseGangOperator(task_id="release", reserve=reserve)
    work = train(reserve.output, "train-{{ ts_nodash | lower }}")
    reserve.as_setup() >> work >> release.as_teardown(setups=reserve)


the_dag = example_reserved_job()
