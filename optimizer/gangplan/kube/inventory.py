"""What stands and runs in a cluster: nodes with their accelerators, pods with theirs; small enough to hold them all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gangplan.errors import InputError
from gangplan.kube.api import Api, Object, whole
from gangplan.types import WHOLE_GPU, Fleet, Pool, PoolKind

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
POOL_LABELS = (
    "gangplan.io/pool",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)
PRODUCT_LABELS = (
    "gangplan.io/accelerator",
    "nvidia.com/gpu.product",  # NVIDIA's GPU operator
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "amd.com/gpu.product-name",
)
CAPACITY_LABELS = ("karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType", "cloud.google.com/gke-spot")
RACK_LABELS = ("gangplan.io/rack", "topology.kubernetes.io/rack", "cloud.provider.com/topology-rack")
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
_VENDORS = ("nvidia.com/", "amd.com/", "google.com/tpu", "habana.ai/", "gpu.intel.com/")
_MAKERS = ("nvidia", "tesla", "geforce", "amd", "instinct")


@dataclass(frozen=True, slots=True)
class Node:
    """A node with accelerators: which, how many of which resource, where, and whether it takes pods."""

    name: str
    pool: str
    accelerator: str
    resource: str
    count: int
    zone: str
    region: str
    rack: str
    spot: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that asks for accelerators: whose, where, how many, and from when to when it ran."""

    tenant: str
    name: str
    node: str
    resource: str
    count: int
    phase: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    owner: str


def node_from(item: Object) -> Node | None:
    """Return a node; None without accelerators."""
    meta, status = item["metadata"], item.get("status", {})
    labels: dict[str, str] = meta.get("labels", {})
    resource, count = _accelerators(status.get("allocatable", {}))
    if not count:
        return None
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    accelerator = short_name(_first(labels, PRODUCT_LABELS) or resource)
    return Node(
        name=meta["name"],
        pool=sys.intern(_first(labels, POOL_LABELS) or f"{accelerator}-{count}"),
        accelerator=sys.intern(accelerator),
        resource=sys.intern(resource),
        count=count,
        zone=sys.intern(labels.get(ZONE, "local-a")),
        region=sys.intern(labels.get(REGION, "local")),
        rack=sys.intern(_first(labels, RACK_LABELS)),
        spot=_first(labels, CAPACITY_LABELS).lower() in ("spot", "true"),
        ready=ready and not item.get("spec", {}).get("unschedulable", False),
    )


def pod_from(item: Object) -> Pod | None:
    """Return a pod; None where it asks for no accelerators."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    resource, count = accelerators_of(spec)
    if not count:
        return None
    owners: list[Object] = meta.get("ownerReferences", [])
    return Pod(
        tenant=sys.intern(meta.get("namespace", "")),
        name=meta["name"],
        node=sys.intern(spec.get("nodeName", "")),
        resource=sys.intern(resource),
        count=count,
        phase=sys.intern(status.get("phase", "Pending")),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        started=_moment(status.get("startTime")),
        ended=_ended(status),
        owner=sys.intern(f"{owners[0]['kind']}/{owners[0]['name']}" if owners else ""),
    )


def accelerators_of(spec: Object) -> tuple[str, int]:
    """Return the accelerator resource that a pod asks for most of, and how many; of none: an empty name and 0."""
    asked: dict[str, int] = {}
    for container in spec.get("containers", ()):
        resources: Object = container.get("resources", {})
        resource, count = _accelerators(resources.get("requests") or resources.get("limits") or {})
        if count:
            asked[resource] = asked.get(resource, 0) + count
    best = max(asked, key=lambda name: asked[name], default="")
    return best, asked.get(best, 0)


def _ended(status: Object) -> datetime | None:
    """Return when the last container of a pod that is over ended."""
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    states: list[Object] = [one.get("state", {}).get("terminated") or {} for one in status.get("containerStatuses", ())]
    return max((moment for one in states if (moment := _moment(one.get("finishedAt")))), default=None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _accelerators(resources: Object) -> tuple[str, int]:
    """Return the accelerator resource that there is most of, and its count: GPUs, MIG slices, TPUs."""
    found = {name: whole(value) for name, value in resources.items() if name.startswith(_VENDORS)}
    best = max(found, key=lambda name: found[name], default="")
    return best, found.get(best, 0)


def _first(labels: dict[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def short_name(product: str) -> str:
    """Return a short name of a product: NVIDIA-H100-80GB-HBM3 is h100, nvidia-tesla-t4 is t4."""
    parts = product.lower().replace("_", "-").replace("/", "-").split("-")
    words = [word for word in parts if word not in _MAKERS]
    models = (word for word in words if any(letter.isdigit() for letter in word) and not word[0].isdigit())
    return next(models, "-".join(words)) or product


def fleet_of(nodes: Iterable[Node]) -> Fleet:
    """Return the fleet that nodes make up, a pool for each pool label; prices are for you to fill in."""
    pools: dict[str, list[Node]] = {}
    for node in nodes:
        pools.setdefault(node.pool, []).append(node)
    if not pools:
        raise InputError("cluster", "nodes", "have no accelerators: install the vendor's device plugin")
    made = tuple(_pool(name, of_pool) for name, of_pool in sorted(pools.items()))
    return Fleet(pools=made, nodes={name: sum(one.ready for one in of_pool) for name, of_pool in pools.items()})


def _pool(name: str, nodes: list[Node]) -> Pool:
    one, racks = nodes[0], {node.rack for node in nodes} - {""}
    part = one.resource.partition("mig-")[2] or WHOLE_GPU
    return Pool(
        name=name,
        accelerator=one.accelerator,
        gpus_per_node=one.count,
        kind=PoolKind.SPOT if one.spot else PoolKind.OWNED,
        price_per_node_hour=0.0,
        max_nodes=len(nodes),
        region=one.region,
        zone=one.zone,
        nodes_per_rack=-(-len(nodes) // len(racks)) if racks else 8,
        slot=part,
    )


def read_nodes(api: Api) -> list[Node]:
    """Return the cluster's nodes that have accelerators."""
    return [node for item in api.items(NODES) if (node := node_from(item)) is not None]


def read_pods(api: Api) -> list[Pod]:
    """Return the cluster's pods that ask for accelerators."""
    return [pod for item in api.items(PODS) if (pod := pod_from(item)) is not None]


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one tenant runs and waits for now, and the accelerator-hours of its pods that are over but still there."""

    tenant: str
    resource: str
    running: int
    waiting: int
    ended: int
    hours: float


def usage_of(pods: Iterable[Pod]) -> list[Use]:
    """Return who uses how much, by tenant (a namespace) and resource."""
    groups: dict[tuple[str, str], list[Pod]] = {}
    for pod in pods:
        groups.setdefault((pod.tenant, pod.resource), []).append(pod)
    return [_use(*names, of_group) for names, of_group in sorted(groups.items())]


def _use(tenant: str, resource: str, pods: list[Pod]) -> Use:
    ended = [pod for pod in pods if pod.ended is not None and pod.started is not None]
    seconds = sum(pod.count * (pod.ended - pod.started).total_seconds() for pod in ended if pod.ended and pod.started)
    return Use(
        tenant=tenant,
        resource=resource,
        running=sum(pod.count for pod in pods if pod.phase == "Running"),
        waiting=sum(pod.count for pod in pods if pod.phase == "Pending"),
        ended=len(ended),
        hours=round(seconds / 3600, 3),
    )
