"""Builders of what tests create: bare Workloads, Jobs and JobSets whose pods KWOK plays."""

from __future__ import annotations

from typing import Any

from gangplan.reserve.kueue.objects import names
from tests.cluster.servers.fleet import GPU, REAL_TOLERATION, TOLERATION
from tests.cluster.servers.node.images import SHELL

Object = dict[str, Any]


def jobs(namespace: str) -> str:
    """Return the path of Jobs."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def pod_spec(gpus: int) -> Object:
    """Return pods of one container with so many GPUs; 0: none."""
    amount: Object = {GPU: str(gpus)} if gpus else {"cpu": "1"}
    return {
        "restartPolicy": "Never",
        "tolerations": [TOLERATION],
        "containers": [{"name": "main", "image": "busybox", "resources": {"limits": amount, "requests": amount}}],
    }


def bare(namespace: str, name: str, gpus: int, *, queue: str = "queue", **spec: Any) -> Object:
    """Return a Workload of one pod that no one of ours made."""
    return {
        "apiVersion": names.VERSION,
        "kind": "Workload",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "queueName": queue,
            "podSets": [{"name": "main", "count": 1, "template": {"spec": pod_spec(gpus)}}],
            **spec,
        },
    }


def a_job(namespace: str, name: str, *, pods: int, gpus: int, how: str = "", runs_for: str = "") -> Object:
    """Return a Job whose pods complete at once, or hang or fail, after running for a while."""
    said = {"gangplan.io/pod": how, "gangplan.io/runs-for": runs_for}
    notes = {key: value for key, value in said.items() if value}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": notes}, "spec": pod_spec(gpus)},
        },
    }


def a_pod(name: str, *, gpus: int, how: str = "") -> Object:
    """Return a pod that completes at once, or hangs or fails."""
    notes = {"gangplan.io/pod": how} if how else {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": notes}, "spec": pod_spec(gpus)}


def a_jobset(namespace: str, name: str, *, workers: int, gpus: int) -> Object:
    """Return a JobSet of one driver without GPUs and some workers."""
    driver, worker = a_job(namespace, "", pods=1, gpus=0), a_job(namespace, "", pods=workers, gpus=gpus)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicatedJobs": [
                {"name": "driver", "replicas": 1, "template": {"spec": driver["spec"]}},
                {"name": "workers", "replicas": 1, "template": {"spec": worker["spec"]}},
            ]
        },
    }


def a_real_pod(name: str, command: list[str], *, node: str, **spec: Any) -> Object:
    """Return a pod that really runs a command, on a real node and on that node's network."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "nodeName": node,
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [TOLERATION, REAL_TOLERATION],
            "containers": [{"name": "main", "image": SHELL, "command": command, **spec.pop("container", {})}],
            **spec,
        },
    }


def condition(item: Object, kind: str) -> str:
    """Return the status of a condition; empty where there is none."""
    found = item.get("status", {}).get("conditions", ())
    return next((one["status"] for one in found if one["type"] == kind), "")


def set_conditions(item: Object) -> set[str]:
    """Return the conditions that hold."""
    return {one["type"] for one in item.get("status", {}).get("conditions", ()) if one["status"] == "True"}
