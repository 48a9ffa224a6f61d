"""Nodes kept free: the objects of a CapacityBuffer, and of placeholder pods where the cluster serves none.

A placeholder takes all GPUs of a node with a priority below everybody's, so that the scheduler takes the node from it
in the moment in which a real pod wants it. It stands in no queue. Kueue counts pods without a queue as use of their
nodes, and would place no gang there; the annotation `podset-unconstrained-topology` says that this is no such use.
"""

from __future__ import annotations

import hashlib
import json

from gangplan.execute.prewarm.engines import ENGINES
from gangplan.execute.prewarm.settings import Buffer
from gangplan.kube import PLACEHOLDER, PLACEHOLDER_CLASS, Object
from gangplan.types import Pool

PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
SETTINGS = "gangplan.io/settings"
"""The annotation with the digest of what we made an object from."""

_NO_USE = "kueue.x-k8s.io/podset-unconstrained-topology"
_NODE_LABEL = "gangplan.io/pool"


def priority_class() -> Object:
    """Return the class of placeholders: below all others, and never at their cost."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": PLACEHOLDER_CLASS},
        "value": -5,  # the cluster autoscaler takes no notice of pods below -10
        "preemptionPolicy": "Never",
        "description": "Pods that keep nodes free until real pods want them",
    }


def digest(where: Buffer, pool: Pool, kind: str) -> str:
    """Return the digest of what a buffer's objects are made from, beside their number."""
    made = placeholders(where, pool, 0) if kind == "placeholders" else pod_template(where, pool)
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:12]


def placeholders(where: Buffer, pool: Pool, number: int) -> Object:
    """Return the Deployment of so many placeholders; none is made beside an old one, for which there is no room."""
    engine = ENGINES["placeholders"]
    return {
        "apiVersion": engine.version,
        "kind": engine.kind,
        "metadata": _meta(where),
        "spec": {
            "replicas": number,
            "selector": {"matchLabels": {PLACEHOLDER: where.name}},
            "strategy": {"type": "Recreate"},
            "template": _template(where, pool, priorityClassName=PLACEHOLDER_CLASS, terminationGracePeriodSeconds=0),
        },
    }


def capacity_buffer(where: Buffer, number: int) -> Object:
    """Return the CapacityBuffer of so many nodes, each of the shape of its PodTemplate."""
    engine = ENGINES["capacity_buffer"]
    spec = {"podTemplateRef": {"name": where.name}, "replicas": number}
    return {"apiVersion": engine.version, "kind": engine.kind, "metadata": _meta(where), "spec": spec}


def pod_template(where: Buffer, pool: Pool) -> Object:
    """Return the PodTemplate that a CapacityBuffer names."""
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": _meta(where), "template": _template(where, pool)}


def pod_template_path(where: Buffer) -> str:
    """Return the path of that PodTemplate."""
    return f"/api/v1/namespaces/{where.namespace}/podtemplates/{where.name}"


def _meta(where: Buffer) -> Object:
    return {"namespace": where.namespace, "name": where.name, "labels": {PLACEHOLDER: where.name}}


def _template(where: Buffer, pool: Pool, **spec: str | int) -> Object:
    """Return a pod that takes all GPUs of a node."""
    amount = {where.resource: str(pool.slots_per_node)}
    keys = dict.fromkeys((where.resource, *where.tolerates))
    return {
        "metadata": {"labels": {PLACEHOLDER: where.name}, "annotations": {_NO_USE: "true"}},
        "spec": {
            **spec,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "nodeSelector": where.node_labels or {_NODE_LABEL: pool.name},
            "tolerations": [{"key": key, "operator": "Exists"} for key in keys],
            "containers": [
                {
                    "name": "placeholder",
                    "image": where.image,
                    "resources": {"limits": amount, "requests": amount},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                        "runAsUser": 65535,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
        },
    }
