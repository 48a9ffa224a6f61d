"""What a cluster has and who uses it: nodes with accelerators as a fleet, and the use of each tenant."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from gangplan.errors import InputError
from gangplan.kube.accelerators import TPU_TOPOLOGY, accelerator_of, profile_of, share_of
from gangplan.kube.api import Api, Object, listed, part
from gangplan.kube.devices import Device, read_slices
from gangplan.kube.pods import PODS, Pod, accelerators_in, amounts_in, pod_from
from gangplan.kube.remarks import Remarks
from gangplan.types import WHOLE_GPU, Fleet, Pool, PoolKind

NODES = "/api/v1/nodes"

CORDONED_AT = "gangplan.io/cordoned-at"
"""The annotation of a node that we have cordoned, with the moment."""

POOL_LABELS = (
    "gangplan.io/pool",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)
CAPACITY_LABELS = ("karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType", "cloud.google.com/gke-spot")
RACK_LABELS = ("gangplan.io/rack", "topology.kubernetes.io/rack", "cloud.provider.com/topology-rack")
NVLINK_LABELS = ("gangplan.io/nvlink", "nvidia.com/gpu.clique")
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node with accelerators: which (empty: nothing tells it), how many, where, and whether it takes pods.

    `resource` is the one that counts most of its accelerators; `amounts` has them all.
    """

    name: str
    pool: str
    accelerator: str
    resource: str
    count: int
    zone: str
    region: str
    rack: str
    nvlink: str
    spot: bool
    ready: bool
    labels: Mapping[str, str] = field(repr=False)
    amounts: Mapping[str, int]

    def called(self, resource: str) -> str:
        """Return the accelerator that a resource counts on this node; empty where nothing tells it."""
        return self.accelerator if resource == self.resource else accelerator_of(self.labels, resource)

    def share(self, resource: str) -> float | None:
        """Return how much of one accelerator one of a resource is on this node; None: nothing tells it."""
        return share_of(resource, self.labels, self.amounts)

    @property
    def accelerators(self) -> int:
        """How many whole accelerators it has."""
        return max(1, round(self.count * (self.share(self.resource) or 1.0)))


def node_from(item: Object, slices: Mapping[str, list[Device]] = {}) -> Node | None:
    """Read a node, with its devices from ResourceSlices; None where it has no accelerators."""
    meta, status = item["metadata"], part(item, "status")
    labels: dict[str, str] = part(meta, "labels")
    amounts = accelerators_in(amounts_in(part(status, "allocatable")))
    devices = slices.get(meta["name"], []) if not amounts else []
    if devices:
        amounts = {devices[0].driver: len(devices)}
    if not amounts:
        return None
    resource = max(amounts, key=lambda name: amounts[name] * (share_of(name, labels, amounts) or 1.0))
    accelerator = devices[0].accelerator if devices else accelerator_of(labels, resource)
    return Node(
        name=meta["name"],
        pool=sys.intern(_first(labels, POOL_LABELS) or f"{accelerator or 'gpu'}-{amounts[resource]}"),
        accelerator=sys.intern(accelerator),
        resource=sys.intern(resource),
        count=amounts[resource],
        zone=sys.intern(labels.get(ZONE, "local-a")),
        region=sys.intern(labels.get(REGION, "local")),
        rack=sys.intern(_first(labels, RACK_LABELS)),
        nvlink=sys.intern(_first(labels, NVLINK_LABELS)),
        spot=_first(labels, CAPACITY_LABELS).lower() in ("spot", "true"),
        ready=is_ready(item) and not part(item, "spec").get("unschedulable", False),
        labels=labels,
        amounts=amounts,
    )


def is_ready(item: Object) -> bool:
    """Tell whether a node or a pod says of itself that it is ready."""
    marks = listed(part(item, "status"), "conditions")
    return any(mark["type"] == "Ready" and mark["status"] == "True" for mark in marks)


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
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
    first = nodes[0]
    slot, parts = _slot(first)
    return Pool(
        name=name,
        accelerator=first.accelerator or "gpu",
        gpus_per_node=first.accelerators,
        kind=PoolKind.SPOT if first.spot else PoolKind.OWNED,
        price_per_node_hour=0.0,
        max_nodes=len(nodes),
        region=first.region,
        zone=first.zone,
        nodes_per_rack=_together([node.rack for node in nodes]) or 8,
        nodes_per_nvlink=_together([node.nvlink for node in nodes]) or _tpu_nodes(first),
        slot=slot,
        slots_per_gpu=parts,
    )


def _slot(node: Node) -> tuple[str, int]:
    """Return what a node's accelerators are divided into, and how many of them each has."""
    parts = round(1 / (node.share(node.resource) or 1.0))
    return (profile_of(node.resource, node.labels) or f"1/{parts}", parts) if parts > 1 else (WHOLE_GPU, 1)


def _together(places: list[str]) -> int:
    """Return how many nodes stand together in one place; 0 where no label says it."""
    known = set(places) - {""}
    return -(-len(places) // len(known)) if known else 0


def _tpu_nodes(node: Node) -> int:
    """Return how many nodes make up the TPU slice that a node belongs to: 4x4 chips on nodes of 4 are 4 nodes."""
    sides = [int(side) for side in re.findall(r"[0-9]+", node.labels.get(TPU_TOPOLOGY, ""))]
    return max(1, prod(sides) // node.count) if sides else 1


def read_nodes(api: Api) -> list[Node]:
    """Return the cluster's nodes that have accelerators."""
    slices = read_slices(api, Remarks()).nodes
    return [node for item in api.items(NODES) if (node := node_from(item, slices)) is not None]


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
        for resource in pod.asks:
            groups.setdefault((pod.tenant, resource), []).append(pod)
    return [_use(tenant, resource, members) for (tenant, resource), members in sorted(groups.items())]


def _use(tenant: str, resource: str, pods: list[Pod]) -> Use:
    spans = [(pod.asks[resource], pod.ended - pod.started) for pod in pods if pod.started and pod.ended]
    return Use(
        tenant=tenant,
        resource=resource,
        running=sum(pod.asks[resource] for pod in pods if pod.phase == "Running" and not pod.ended),
        waiting=sum(pod.asks[resource] for pod in pods if pod.phase == "Pending" and not pod.ended),
        ended=len(spans),
        hours=round(sum(count * span.total_seconds() for count, span in spans) / 3600, 3),
    )
