"""Accelerators by dynamic resource allocation: the devices of nodes, and those that pods hold by claims."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from gangplan.kube import Object, devices_in, held_devices, listed, part


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSlice:
    """The whole devices of a node that one ResourceSlice lists."""

    node: str
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenClaim:
    """The devices that a ResourceClaim was given, and the pods that share them, as `namespace/name`."""

    pods: tuple[str, ...]
    devices: int


def seen_slice(item: Object) -> SeenSlice | None:
    """Read a ResourceSlice; None where it lists no accelerators of one node."""
    nodes = [node for _, node, device in devices_in(item) if node and device.share == 1]
    return SeenSlice(node=sys.intern(nodes[0]), devices=len(nodes)) if nodes else None


def seen_claim(item: Object) -> SeenClaim | None:
    """Read a ResourceClaim; None where no pod holds accelerators by it."""
    namespace, devices = item["metadata"]["namespace"], held_devices(item)
    users = [one["name"] for one in listed(part(item, "status"), "reservedFor") if one.get("resource") == "pods"]
    return (
        SeenClaim(pods=tuple(f"{namespace}/{name}" for name in users), devices=devices) if users and devices else None
    )
