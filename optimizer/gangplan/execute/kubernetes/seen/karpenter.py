"""Karpenter's NodePools and NodeClaims as small values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gangplan.execute.kubernetes.seen.nodes import NODEPOOL
from gangplan.kube import Object, listed, part, whole

KARPENTER = "/apis/karpenter.sh/v1"
HELD_LIMIT = "gangplan.io/limits-nodes"
"""The annotation of a NodePool whose limit we hold down while nodes are removed: what it was, or `none`."""

_BEGINS = {"AwaitingReconciliation", "NodeNotFound", "NodeNotReady", "KnownEphemeralTaintsExist", "StartupTaintsExist"}
"""Reasons of conditions that every NodeClaim goes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNodePool:
    """A NodePool; `replicas` is None where it is not static, `held` what its limit was before we held it down."""

    name: str
    replicas: int | None
    limit: int | None = None
    held: str = ""
    observed: bool = True
    trouble: str = ""
    expires: str = "Never"
    grace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def most(self) -> int | None:
        """Its limit as people have set it; None where there is none."""
        return int(self.held) if self.held.isdecimal() else None if self.held else self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNodeClaim:
    """A NodeClaim: its node, once it has one, and why it does not come."""

    name: str
    uid: str
    nodepool: str
    node: str = ""
    leaving: bool = False
    trouble: str = ""


def seen_nodepool(item: Object) -> SeenNodePool:
    """Read a NodePool."""
    meta, spec = item["metadata"], item["spec"]
    template: Object = part(spec, "template", "spec")
    marks: list[Object] = listed(part(item, "status"), "conditions")
    limit = part(spec, "limits").get("nodes")
    generation = meta.get("generation", 0)
    return SeenNodePool(
        name=meta["name"],
        replicas=spec.get("replicas"),
        limit=None if limit is None else whole(limit),
        held=part(meta, "annotations").get(HELD_LIMIT, ""),
        observed=any(
            mark["type"] == "ValidationSucceeded" and mark.get("observedGeneration", 0) >= generation for mark in marks
        ),
        trouble=next((_words(mark) for mark in marks if _ill(mark)), ""),
        expires=template.get("expireAfter", "720h"),
        grace=template.get("terminationGracePeriod", ""),
        labels={**part(spec, "template", "metadata", "labels"), NODEPOOL: meta["name"]},
    )


def seen_nodeclaim(item: Object) -> SeenNodeClaim:
    """Read a NodeClaim."""
    meta, status = item["metadata"], part(item, "status")
    return SeenNodeClaim(
        name=meta["name"],
        uid=meta["uid"],
        nodepool=part(meta, "labels").get(NODEPOOL, ""),
        node=status.get("nodeName", ""),
        leaving="deletionTimestamp" in meta,
        trouble=next((_words(mark) for mark in listed(status, "conditions") if _stuck(mark)), ""),
    )


def _ill(mark: Object) -> bool:
    """Whether a condition says that a NodePool gets no nodes."""
    return (mark["type"], mark["status"]) == ("NodeRegistrationHealthy", "False") or (
        mark["type"] == "Ready" and mark["status"] != "True"
    )


def _stuck(mark: Object) -> bool:
    """Whether a condition says that a node does not come."""
    comes = mark["type"] in ("Launched", "Registered", "Initialized")
    return comes and mark["status"] != "True" and mark.get("reason", "") not in {*_BEGINS, mark["type"], ""}


def _words(mark: Object) -> str:
    return f"{mark['type']}: {mark.get('reason', '')}: {mark.get('message', '')}"
