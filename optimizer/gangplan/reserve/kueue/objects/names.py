"""The names that we and Kueue write into objects."""

from __future__ import annotations

from gangplan.kube import KUEUE

GROUP = "kueue.x-k8s.io"
API = KUEUE
VERSION = API.removeprefix("/apis/")

MANAGED = "app.kubernetes.io/managed-by"
QUEUE = "gangplan.io/queue"
RECORD = "gangplan-ended-"
"""Begins the names of the ConfigMaps that say how reservations ended."""

ENDED = "ended.gangplan.io/"
"""Before a reservation's id: the label of the ConfigMap that says how it ended."""

HOST = "kubernetes.io/hostname"
GPU = "nvidia.com/gpu"

PREBUILT = f"{GROUP}/prebuilt-workload-name"
QUEUE_NAME = f"{GROUP}/queue-name"
POD_GROUP = f"{GROUP}/pod-group-name"
POD_GROUP_TOTAL = f"{GROUP}/pod-group-total-count"
IS_GROUP = f"{GROUP}/is-group-workload"
"""Without it Kueue does not look at a group's pods when their Workload changes: deactivated, they would run on."""

ROLE_HASH = f"{GROUP}/role-hash"
MAX_EXEC = f"{GROUP}/max-exec-time-seconds"


def workloads(namespace: str = "") -> str:
    """Return the path of Workloads, of one namespace or of all."""
    return f"{API}/namespaces/{namespace}/workloads" if namespace else f"{API}/workloads"


def resource_of(slot: str) -> str:
    """Return the extended resource that a slot is counted in: whole GPUs, MIG profiles, or a name as it stands."""
    if slot == "gpu":
        return GPU
    return slot if "." in slot.partition("/")[0] and "/" in slot else f"nvidia.com/mig-{slot}"
