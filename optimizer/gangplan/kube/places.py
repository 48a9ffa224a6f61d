"""Which accelerator a pod asks for, and how much of one: by its node, its selector and affinity, or its flavor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gangplan.kube.accelerators import accelerator_of, only_one, share_of
from gangplan.kube.api import Object, part
from gangplan.kube.inventory import Node
from gangplan.kube.pods import is_choosy, labels_wanted, may_go_to

_ANY_GPU = "nvidia.com/gpu"
"""A pod that asks for it and names no nodes would take any GPU."""


@dataclass(frozen=True, slots=True)
class Place:
    """The accelerator of a resource (empty: nothing tells it), how much of one it is, and what is assumed in that.

    `several`: others will do as well. `shared`: it is a share whose size nothing tells, so that it counts as a whole.
    """

    accelerator: str
    share: float
    several: bool = False
    shared: bool = False


class Places:
    """The nodes of a cluster as places for pods."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._found: dict[str, Place] = {}

    def of_pod(self, spec: Object, resource: str) -> Place:
        """Return the place of a pod, as its spec says it: its node, or else those that it may go to."""
        node = self.nodes.get(spec.get("nodeName") or "")
        if node is not None:
            return _place([node], resource)
        key = f"{resource} {spec.get('nodeSelector')} {part(spec, 'affinity', 'nodeAffinity')}"
        if key not in self._found:
            self._found[key] = self._wished(spec, resource)
        return self._found[key]

    def of_flavor(self, name: str, labels: Mapping[str, str], resource: str) -> Place:
        """Return the place of a Kueue flavor: as its labels say, or its nodes; else it is called as the flavor."""
        there = self._with(resource, {"nodeSelector": dict(labels)}) if labels else []
        found = _place(there, resource)
        told = accelerator_of(labels, resource) or found.accelerator or name
        share = found.share if there else share_of(resource, labels)
        return Place(told, share or 1.0, shared=share is None or found.shared)

    def _wished(self, spec: Object, resource: str) -> Place:
        """Return the place of a pod that has no known node, by its selector and affinity."""
        there = self._with(resource, spec) if is_choosy(spec) or resource != _ANY_GPU else []
        found = _place(there, resource)
        if found.accelerator:
            return found
        alternatives = labels_wanted(spec)
        names = [name for labels in alternatives if (name := accelerator_of(labels, resource))]
        share = found.share if there else share_of(resource, alternatives[0])
        return Place(names[0] if names else "", share or 1.0, len(set(names)) > 1, share is None or found.shared)

    def _with(self, resource: str, spec: Object) -> list[Node]:
        """Return the nodes that have a resource and that a pod may go to."""
        nodes = (node for node in self.nodes.values() if resource in node.amounts)
        return [node for node in nodes if may_go_to(spec, node.labels, node.name)]


def _place(nodes: list[Node], resource: str) -> Place:
    """Return what a resource is on these nodes, as far as they agree."""
    shares = {node.share(resource) for node in nodes} or {1.0}
    share = shares.pop() if len(shares) == 1 else None
    return Place(only_one(node.called(resource) for node in nodes), share or 1.0, shared=share is None)
