"""What a cluster has and runs: nodes with accelerators, and pods that ask for them; small enough to keep them all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gangplan.errors import InputError
from gangplan.kube.api import Api, Object, whole
from gangplan.kube.vendors import is_accelerator, short_name
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
    """A pod that asks for accelerators: its namespace as the tenant, its node, how many, and when it ran."""

    tenant: str
    name: str
    node: str
    resource: str
    count: int
    phase: str
    created: datetime
    started: datetime | None
    ended: datetime | None


def node_from(item: Object) -> Node | None:
    """Read a node; None where it has no accelerators."""
    meta, status = item["metadata"], item.get("status", {})
    labels: dict[str, str] = meta.get("labels", {})
    resource, count = _accelerators(status.get("allocatable", {}))
    if not count:
        return None
    ready = any(mark["type"] == "Ready" and mark["status"] == "True" for mark in status.get("conditions", ()))
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
    """Read a pod; None where it asks for no accelerators."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    resource, count = accelerators_of(spec)
    if not count:
        return None
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
    )


def accelerators_of(spec: Object) -> tuple[str, int]:
    """Return the accelerator resource that a pod asks for most, and how many; without any, an empty name and 0."""
    asked: dict[str, int] = {}
    for container in spec.get("containers", ()):
        resources: Object = container.get("resources", {})
        resource, count = _accelerators(resources.get("requests") or resources.get("limits") or {})
        if count:
            asked[resource] = asked.get(resource, 0) + count
    return _most(asked)


def _accelerators(resources: Object) -> tuple[str, int]:
    """Return the most frequent accelerator resource in a list of resources, and its count."""
    return _most({name: whole(value) for name, value in resources.items() if is_accelerator(name)})


def _most(counts: dict[str, int]) -> tuple[str, int]:
    """Return the name with the largest count, and that count; an empty name and 0 if there are none."""
    best = max(counts, key=lambda name: counts[name], default="")
    return best, counts.get(best, 0)


def _ended(status: Object) -> datetime | None:
    """Return when the last container of a finished pod ended."""
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    containers: list[Object] = status.get("containerStatuses", [])
    states: list[Object] = [container.get("state", {}).get("terminated") or {} for container in containers]
    return max((moment for state in states if (moment := _moment(state.get("finishedAt")))), default=None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _first(labels: dict[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def fleet_of(nodes: Iterable[Node]) -> Fleet:
    """Return the fleet of these nodes, with a pool for each pool label; its prices are 0 and must be filled in."""
    pools: dict[str, list[Node]] = {}
    for node in nodes:
        pools.setdefault(node.pool, []).append(node)
    if not pools:
        raise InputError("cluster", "nodes", "have no accelerators: install the vendor's device plugin")
    return Fleet(
        pools=tuple(_pool(name, members) for name, members in sorted(pools.items())),
        nodes={name: sum(node.ready for node in members) for name, members in pools.items()},
    )


def _pool(name: str, nodes: list[Node]) -> Pool:
    first, racks = nodes[0], {node.rack for node in nodes} - {""}
    return Pool(
        name=name,
        accelerator=first.accelerator,
        gpus_per_node=first.count,
        kind=PoolKind.SPOT if first.spot else PoolKind.OWNED,
        price_per_node_hour=0.0,
        max_nodes=len(nodes),
        region=first.region,
        zone=first.zone,
        nodes_per_rack=-(-len(nodes) // len(racks)) if racks else 8,
        slot=first.resource.partition("mig-")[2] or WHOLE_GPU,
    )


def read_nodes(api: Api) -> list[Node]:
    """Return the cluster's nodes that have accelerators."""
    return [node for item in api.items(NODES) if (node := node_from(item)) is not None]


def read_pods(api: Api) -> list[Pod]:
    """Return the cluster's pods that ask for accelerators."""
    return [pod for item in api.items(PODS) if (pod := pod_from(item)) is not None]


@dataclass(frozen=True, kw_only=True)
class Use:
    """The accelerators that a tenant's pods run on and wait for, and the accelerator-hours of its finished pods."""

    tenant: str
    resource: str
    running: int
    waiting: int
    ended: int
    hours: float


def usage_of(pods: Iterable[Pod]) -> list[Use]:
    """Return who uses how many accelerators, by tenant (a namespace) and resource."""
    groups: dict[tuple[str, str], list[Pod]] = {}
    for pod in pods:
        groups.setdefault((pod.tenant, pod.resource), []).append(pod)
    return [_use(tenant, resource, members) for (tenant, resource), members in sorted(groups.items())]


def _use(tenant: str, resource: str, pods: list[Pod]) -> Use:
    spans = [(pod.count, pod.ended - pod.started) for pod in pods if pod.ended is not None and pod.started is not None]
    return Use(
        tenant=tenant,
        resource=resource,
        running=sum(pod.count for pod in pods if pod.phase == "Running"),
        waiting=sum(pod.count for pod in pods if pod.phase == "Pending"),
        ended=len(spans),
        hours=round(sum(count * span.total_seconds() for count, span in spans) / 3600, 3),
    )
