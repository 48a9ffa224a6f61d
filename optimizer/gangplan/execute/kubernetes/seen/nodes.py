"""What an executor must know of nodes, pods and Workloads, as small values: a cluster has tens of thousands."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gangplan.clock import from_us
from gangplan.kube import (
    CORDONED_AT,
    POOL_LABELS,
    Object,
    accelerators_in,
    claim_from,
    is_placeholder,
    listed,
    node_from,
    part,
    requests_of,
)

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
NODEPOOL, INITIALIZED = "karpenter.sh/nodepool", "karpenter.sh/initialized"
HOSTNAME = "kubernetes.io/hostname"

BOUND = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
"""The field selector of pods that are on a node and not over."""

_UNREGISTERED = "karpenter.sh/unregistered"
_ENDING = {"karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"}
_KUEUE = "kueue.x-k8s.io/"
_WORKLOAD, _GROUP = f"{_KUEUE}workload", f"{_KUEUE}pod-group-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """A node: its labels, its slots, and whether pods may come; `new` that Karpenter has not finished it.

    `machine` is its id at the cloud (spec.providerID).
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    slots: int = 0
    ready: bool = True
    new: bool = False
    unschedulable: bool = False
    cordoned_at: datetime | None = None
    leaving: bool = False
    machine: str = ""

    @property
    def pool(self) -> str:
        """The value of its first pool label; empty where it has none."""
        return next((self.labels[label] for label in POOL_LABELS if self.labels.get(label)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPod:
    """A pod with accelerators that is bound to a node and not over.

    `slots` are 0 where it holds them by claims. `workload` is the one that Kueue has written on it, `owners` are the
    ids of what made it, and its own.
    """

    node: str
    slots: int
    workload: str = ""
    owners: tuple[str, ...] = ()
    protected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a Workload was given of one flavor; `nodes` where Kueue has chosen them."""

    flavor: str
    slots: int
    nodes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorkload:
    """A Workload that holds quota of accelerators."""

    queue: str
    given: tuple[Given, ...]
    owners: tuple[str, ...] = ()
    until: datetime | None = None


def seen_node(item: Object) -> SeenNode | None:
    """Read a node that has accelerators or belongs to a pool; None for all others."""
    meta, spec, labels = item["metadata"], part(item, "spec"), part(item["metadata"], "labels")
    known = node_from(item)
    if known is None and not any(labels.get(label) for label in POOL_LABELS):
        return None
    taints = {taint["key"] for taint in listed(spec, "taints")}
    marks = {mark["type"]: mark["status"] for mark in listed(part(item, "status"), "conditions")}
    unschedulable = bool(spec.get("unschedulable"))
    return SeenNode(
        name=meta["name"],
        labels={sys.intern(name): sys.intern(value) for name, value in labels.items()},
        slots=known.count if known else 0,
        ready=marks.get("Ready") == "True",
        new=_UNREGISTERED in taints or (NODEPOOL in labels and labels.get(INITIALIZED) != "true"),
        unschedulable=unschedulable,
        cordoned_at=moment_of(part(meta, "annotations").get(CORDONED_AT)) if unschedulable else None,
        leaving="deletionTimestamp" in meta or bool(taints & _ENDING),
        machine=spec.get("providerID") or "",
    )


def seen_pod(item: Object) -> SeenPod | None:
    """Read a pod; None where it holds no accelerators, or keeps them free for others."""
    meta, spec = item["metadata"], item["spec"]
    if is_placeholder(item):
        return None
    node, asks = spec.get("nodeName"), accelerators_in(requests_of(spec))
    if not node or part(item, "status").get("phase") in ("Succeeded", "Failed"):
        return None
    if not asks and not spec.get("resourceClaims"):
        return None
    notes: dict[str, str] = part(meta, "annotations")
    workload = notes.get(_WORKLOAD) or part(meta, "labels").get(_GROUP, "")
    return SeenPod(
        node=sys.intern(node),
        slots=sum(asks.values()),
        workload=sys.intern(f"{meta['namespace']}/{workload}") if workload else "",
        owners=(*(sys.intern(owner["uid"]) for owner in listed(meta, "ownerReferences")), meta.get("uid", "")),
        protected=notes.get(DO_NOT_DISRUPT) == "true",
    )


def holds_its_node(item: Object) -> bool:
    """Whether a node may not be removed under a pod: it has accelerators, belongs to a gang, or may not be disturbed.

    A gang's driver may have no accelerators, and the gang ends with it.
    """
    notes = part(item["metadata"], "annotations")
    over = part(item, "status").get("phase") in ("Succeeded", "Failed")
    return not over and (seen_pod(item) is not None or _WORKLOAD in notes or notes.get(DO_NOT_DISRUPT) == "true")


def seen_workload(item: Object) -> SeenWorkload | None:
    """Read a Workload; None where it holds no quota of accelerators, or still waits for nodes that it asks for."""
    if not part(item, "status").get("admission"):
        return None
    claim = claim_from(item)
    if not claim.reserved or claim.admitted is None:  # an admission check holds it: it has quota, and no nodes
        return None
    # Kueue gives on what ended pods held while their gang runs on: counted twice, nodes would be ordered for it.
    ended = {one["name"]: int(one["count"]) for one in listed(item["status"], "reclaimablePods")}
    held = {share.pod_set: max(share.pods - ended.get(share.pod_set, 0), 0) for share in claim.shares}
    given = tuple(
        Given(
            flavor=sys.intern(share.flavor),
            slots=held[share.pod_set] * share.gpus // share.pods,
            nodes=tuple((sys.intern(node), pods * share.gpus // share.pods) for node, pods in share.nodes),
        )
        for share in claim.shares
        if share.gpus and held[share.pod_set]
    )
    ends = claim.admitted + claim.limit_s * 1_000_000 if claim.limit_s else None
    return (
        SeenWorkload(
            queue=sys.intern(claim.cluster_queue),
            given=given,
            owners=tuple(owner["uid"] for owner in listed(item["metadata"], "ownerReferences")),
            until=None if ends is None else from_us(ends),
        )
        if given
        else None
    )


def moment_of(text: str | None) -> datetime | None:
    """Return a moment that we wrote on an object; what somebody has made of it otherwise is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
