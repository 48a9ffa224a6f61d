"""DAGs whose steps run as pods on the slots of their gang; tests run them on real nodes.

Each pod says what it knows of its slots. Where there is a folder /go, it goes on to its end when a file is put there.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from kubernetes.client import V1HostPathVolumeSource, V1Volume, V1VolumeMount

from gangplan_airflow import gang

GANG: dict[str, Any] = {"tenant": "vision", "accelerators": ["h100"], "duration": "10m"}
SAYS = "env | grep ^GANGPLAN_ | sort; while [ -d /go ] && [ ! -e /go/on ]; do sleep 0.1; done; echo done on $(hostname)"
POD: dict[str, Any] = {
    "name": "step",
    "namespace": os.environ.get("STEP_NAMESPACE"),
    "image": os.environ.get("STEP_IMAGE"),
    "image_pull_policy": "IfNotPresent",
    "cmds": ["sh", "-c", SAYS],
    "config_file": os.environ.get("KUBECONFIG"),
    "startup_check_interval_seconds": 1,
    "on_finish_action": "keep_pod",
    "termination_grace_period": 0,
    "automount_service_account_token": False,
}
if folder := os.environ.get("STEP_GOES_ON"):
    POD["volumes"] = [V1Volume(name="go", host_path=V1HostPathVolumeSource(path=folder))]
    POD["volume_mounts"] = [V1VolumeMount(name="go", mount_path="/go", read_only=True)]


def a_dag(dag_id: str) -> DAG:
    """A DAG that runs when it is told to."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)


with a_dag("a_pod") as a_pod, gang("big", pods=1, gpus_per_pod=8, **GANG) as slots:
    KubernetesPodOperator(task_id="step", retries=1, retry_delay=timedelta(seconds=1), **POD, **slots.pod_kwargs())

JOB: dict[str, Any] = {
    "parallelism": 2,
    "completions": 2,
    "backoff_limit": 0,
    "wait_until_job_complete": True,
    "job_poll_interval": 1,
    **POD,
}

with a_dag("a_job") as a_job, gang("big", pods=2, gpus_per_pod=2, **GANG) as slots:
    KubernetesJobOperator(task_id="step", **JOB, **slots.pod_kwargs(adopt=False))

with a_dag("a_job_adopts") as a_job_adopts, gang("big", pods=2, gpus_per_pod=2, **GANG) as slots:
    KubernetesJobOperator(task_id="step", **JOB, **slots.pod_kwargs())
