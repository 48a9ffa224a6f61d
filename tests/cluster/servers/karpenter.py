"""Karpenter with its provider for KWOK: it orders nodes, boots them after a delay, and ends them.

It runs with the rights that its chart gives to its account. The hostname label of its nodes is the NodeClaim's name,
not the node's.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.servers import build, fleet

if TYPE_CHECKING:
    from tests.cluster.servers.cluster import Cluster

Object = dict[str, Any]

API = "/apis/karpenter.sh/v1"
NODE_CLASSES = "/apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses"
GATES = "StaticCapacity=true,CapacityBuffer=true"
PORTS = ("karpenter-metrics", "karpenter-health")
TYPES = {"h100-8": (8, 55.04), "a100-8": (8, 21.96), "l4-1": (1, 0.80)}
"""GPUs and price per hour of the types of nodes that it can order."""


def start(cluster: Cluster) -> None:
    """Start it with our types of nodes, and wait until it answers."""
    everything = [one for one in yaml.safe_load_all(build.manifest("karpenter", "karpenter")) if one]
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "karpenter", "namespace": "karpenter"},
    }
    cluster.apply([fleet.namespace("karpenter"), account, *everything])
    types = cluster.folder / "instance-types.json"
    types.write_text(json.dumps([instance_type(name) for name in TYPES]))
    environment = {
        "KUBECONFIG": str(cluster.token_kubeconfig("karpenter", "karpenter")),
        "SYSTEM_NAMESPACE": "karpenter",
        "METRICS_PORT": str(cluster.ports["karpenter-metrics"]),
        "HEALTH_PROBE_PORT": str(cluster.ports["karpenter-health"]),
        "DISABLE_LEADER_ELECTION": "true",
        "FEATURE_GATES": GATES,
        "INSTANCE_TYPES_FILE_PATH": str(types),
    }
    server = cluster.start_server("karpenter", [cluster.binary("karpenter")], **environment)
    server.wait_until(lambda: serves(cluster))


def serves(cluster: Cluster) -> bool:
    """Tell whether it is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        address = f"http://127.0.0.1:{cluster.ports['karpenter-health']}/readyz"
        return bool(opener.open(address, timeout=2).status == 200)
    except OSError:
        return False


def instance_type(name: str) -> Object:
    """Return a type of node as the provider's file has it."""
    gpus, price = TYPES[name]
    resources = {"cpu": str(24 * gpus), "memory": f"{256 * gpus}Gi", "ephemeral-storage": "2Ti", fleet.GPU: str(gpus)}
    return {
        "name": name,
        "offerings": [{"capacityType": "on-demand", "zone": "zone-a", "price": price}],
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": resources,
    }


def node_class(name: str, delay: str) -> Object:
    """Return a class of nodes that come so long after they were ordered, like 2s."""
    return {
        "apiVersion": "karpenter.kwok.sh/v1alpha1",
        "kind": "KWOKNodeClass",
        "metadata": {"name": name},
        "spec": {"nodeRegistrationDelay": delay},
    }


def node_pool(name: str, kind: str, *, replicas: int | None = None, most: int = 100, node_class: str = "") -> Object:
    """Return the pool `name`; with `replicas` it has just so many nodes, else as many as pods wait for."""
    accelerator, gpus = kind.split("-")[0], TYPES[kind][0]
    template: Object = {
        "requirements": [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [kind]}],
        "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": node_class or name},
        "taints": [fleet.TAINT],
        "expireAfter": "Never",
    }
    labels = {
        fleet.POOL: name,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": f"NVIDIA-{accelerator.upper()}",
        "nvidia.com/gpu.count": str(gpus),
    }
    # One more than there will be: with just as many, a node that must be replaced waits for itself.
    spec: Object = {"template": {"metadata": {"labels": labels}, "spec": template}, "limits": {"nodes": str(most + 1)}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name}, "spec": spec}
