"""A cluster at one moment, as an executor needs it, and which of its nodes belong to which pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gangplan.errors import ForbiddenError, InputError
from gangplan.execute.kubernetes.copies import Copies, Heard, nothing_heard
from gangplan.execute.kubernetes.seen import (
    BOUND,
    HOSTNAME,
    KARPENTER,
    NODEPOOL,
    QUEUE,
    SeenClaim,
    SeenNode,
    SeenNodeClaim,
    SeenNodePool,
    SeenPlace,
    SeenPod,
    SeenSlice,
    SeenWorkload,
    seen_claim,
    seen_cohort,
    seen_flavor,
    seen_node,
    seen_nodeclaim,
    seen_nodepool,
    seen_pod,
    seen_queue,
    seen_slice,
    seen_workload,
)
from gangplan.execute.kubernetes.settings import KarpenterNodes, KueueQuota, NodeSettings
from gangplan.kube import KUEUE, NODES, PODS, Api, devices_version
from gangplan.types import Fleet


@dataclass(frozen=True, kw_only=True)
class Pools:
    """The pools that live on a cluster: who makes their nodes, which quotas let them be used."""

    nodes: Mapping[str, NodeSettings]
    quotas: Mapping[str, KueueQuota]
    fleet: Fleet

    def __post_init__(self) -> None:
        for name in {**self.nodes, **self.quotas}:
            self.fleet.pool(name)
        claimed: dict[str, str] = {}
        for name, nodes in self.nodes.items():
            if isinstance(nodes, KarpenterNodes) and (other := claimed.setdefault(nodes.nodepool, name)) != name:
                raise InputError(f"pools[{name}].nodes.nodepool", nodes.nodepool, f"is pool {other}'s already")

    @cached_property
    def by_nodepool(self) -> Mapping[str, str]:
        """The pools of Karpenter's NodePools."""
        return {each.nodepool: name for name, each in self.nodes.items() if isinstance(each, KarpenterNodes)}

    @cached_property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset({*self.nodes, *self.quotas})

    def of(self, node: SeenNode) -> str:
        """Return the pool of a node; empty where it is none of ours."""
        pool = self.by_nodepool.get(node.labels.get(NODEPOOL, "")) or node.pool
        return pool if pool in self.names else ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The objects of a cluster; nodes, pods and Workloads are those with accelerators."""

    nodes: Mapping[str, SeenNode] = field(default_factory=dict[str, SeenNode])
    pods: Mapping[str, SeenPod] = field(default_factory=dict[str, SeenPod])
    workloads: Mapping[str, SeenWorkload] = field(default_factory=dict[str, SeenWorkload])
    queues: Mapping[str, SeenPlace] = field(default_factory=dict[str, SeenPlace])
    cohorts: Mapping[str, SeenPlace] = field(default_factory=dict[str, SeenPlace])
    flavors: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    nodepools: Mapping[str, SeenNodePool] = field(default_factory=dict[str, SeenNodePool])
    claims: Mapping[str, SeenNodeClaim] = field(default_factory=dict[str, SeenNodeClaim])
    slices: Mapping[str, SeenSlice] = field(default_factory=dict[str, SeenSlice])
    resource_claims: Mapping[str, SeenClaim] = field(default_factory=dict[str, SeenClaim])

    @cached_property
    def hosts(self) -> Mapping[str, str]:
        """The nodes' names by their host names, as a topology's lowest level has them."""
        return {node.labels.get(HOSTNAME, name): name for name, node in self.nodes.items()}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A snapshot, read with the pools in mind."""

    pools: Pools
    snapshot: Snapshot

    @cached_property
    def members(self) -> Mapping[str, list[SeenNode]]:
        """The nodes of each pool, by name."""
        found: dict[str, list[SeenNode]] = {name: [] for name in self.pools.names}
        for _, node in sorted(self.snapshot.nodes.items()):
            if pool := self.pools.of(node):
                found[pool].append(node)
        return found

    @cached_property
    def pool_of_node(self) -> Mapping[str, str]:
        """The pool of each node of ours."""
        return {node.name: pool for pool, nodes in self.members.items() for node in nodes}

    def slots_of(self, node: SeenNode) -> int:
        """Return the slots of a node: of its device plugin, or else the devices that its driver lists."""
        return node.slots or self._devices.get(node.name, 0)

    def held_by(self, name: str, pod: SeenPod) -> int:
        """Return the slots that a pod holds; by claims that it shares, one at least, for they hold its node."""
        return pod.slots + self._claimed.get(name, 0) or 1

    @cached_property
    def _devices(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for each in self.snapshot.slices.values():
            found[each.node] = found.get(each.node, 0) + each.devices
        return found

    @cached_property
    def _claimed(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for each in self.snapshot.resource_claims.values():
            found[each.pods[0]] = found.get(each.pods[0], 0) + each.devices
        return found

    @cached_property
    def labels(self) -> Mapping[str, Mapping[str, str]]:
        """The labels that all nodes of a pool have; of Karpenter's pools without nodes those that they will have."""
        return {name: _common(nodes) if nodes else self._to_come(name) for name, nodes in self.members.items()}

    def _to_come(self, pool: str) -> Mapping[str, str]:
        settings = self.pools.nodes.get(pool)
        found = self.snapshot.nodepools.get(settings.nodepool) if isinstance(settings, KarpenterNodes) else None
        return found.labels if found else {}


def _common(nodes: list[SeenNode]) -> Mapping[str, str]:
    """Return the labels in which some nodes agree."""
    agreed = set(nodes[0].labels.items())
    for node in nodes[1:]:
        agreed &= node.labels.items()
    return dict(agreed)


class Cluster:
    """Takes snapshots of one cluster."""

    def __init__(self, api: Api, *, watched: bool, karpenter: bool, heard: Heard = nothing_heard) -> None:
        copies = Copies(api, watched, heard)
        self.kueue, self.karpenter = copies.serves(KUEUE), karpenter and copies.serves(KARPENTER)
        self._nodes = copies.of(NODES, seen_node)
        self._pods = copies.of(PODS, seen_pod, fieldSelector=BOUND)
        kueue, claims = self.kueue, self.karpenter
        self._workloads = copies.of(f"{KUEUE}/workloads", seen_workload, served=kueue)
        self._queues = copies.of(f"{KUEUE}/clusterqueues", seen_queue, served=kueue)
        self._cohorts = copies.of(f"{KUEUE}/cohorts", seen_cohort, served=kueue)
        self._flavors = copies.of(f"{KUEUE}/resourceflavors", seen_flavor, served=kueue)
        self._nodepools = copies.of(f"{KARPENTER}/nodepools", seen_nodepool, served=claims)
        self._claims = copies.of(f"{KARPENTER}/nodeclaims", seen_nodeclaim, served=claims)
        version = _devices_version(api)
        devices, served = f"/apis/resource.k8s.io/{version}", bool(version)
        self._slices = copies.of(f"{devices}/resourceslices", seen_slice, served=served)
        self._resource_claims = copies.of(f"{devices}/resourceclaims", seen_claim, served=served)
        of_kueue = (self._workloads, self._queues, self._cohorts, self._flavors)
        self._all = (
            self._nodes,
            self._pods,
            *of_kueue,
            self._nodepools,
            self._claims,
            self._slices,
            self._resource_claims,
        )

    def now(self) -> Snapshot:
        """Return the cluster as it is; pods are read last, so that none is missed whose Workload is seen."""
        return Snapshot(
            nodes=self._nodes.now(),
            queues=self._queues.now(),
            cohorts=self._cohorts.now(),
            flavors=self._flavors.now(),
            nodepools=self._nodepools.now(),
            claims=self._claims.now(),
            slices=self._slices.now(),
            workloads=self._workloads.now(),
            resource_claims=self._resource_claims.now(),
            pods=self._pods.now(),
        )

    def nodes(self) -> Mapping[str, SeenNode]:
        """Return the nodes as they are, as far as the copy knows."""
        return self._nodes.now()

    def place(self, place: SeenPlace) -> SeenPlace:
        """Return a queue or cohort likewise; one that is gone as it was."""
        return (self._queues if place.kind == QUEUE else self._cohorts).now().get(place.name, place)

    def close(self) -> None:
        """End the watches."""
        for copy in self._all:
            copy.close()


def _devices_version(api: Api) -> str:
    """Return the version of resource.k8s.io that is read; empty where it may not be, which the check names."""
    try:
        return devices_version(api)
    except ForbiddenError:
        return ""
