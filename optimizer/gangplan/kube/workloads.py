"""The gangs that a cluster knows: Kueue's Workloads, and pods that belong to no Workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gangplan.errors import NotFoundError
from gangplan.kube.api import Api, Object
from gangplan.kube.inventory import PODS, PRODUCT_LABELS, accelerators_of, pod_from, read_nodes
from gangplan.kube.vendors import short_name

KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
_COUNTED = "kueue.x-k8s.io/"
_CLASS = "gangplan.io/workload-class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Pods that asked for accelerators together: whose, how many of which, when they came, started and ended.

    `accelerator` is empty where it is unknown; `kind` is the workload class of its label, or empty.
    """

    id: str
    tenant: str
    accelerator: str
    count: int
    kind: str
    created: datetime
    started: datetime | None
    ended: datetime | None


def read_gangs(api: Api) -> list[Gang]:
    """Return all gangs that the cluster still knows; without Kueue, each pod is a gang."""
    flavors = dict(_flavors(api))
    nodes = {node.name: node.accelerator for node in read_nodes(api)}
    gangs = [gang for item in _items(api, f"{KUEUE}/workloads") if (gang := gang_from(item, flavors)) is not None]
    gangs += [gang for item in api.items(PODS) if (gang := _gang_of_pod(item, nodes)) is not None]
    return gangs


def _items(api: Api, path: str) -> Iterator[Object]:
    try:
        yield from api.items(path)
    except NotFoundError:  # the cluster has no Kueue
        return


def _flavors(api: Api) -> Iterator[tuple[str, str]]:
    """Yield the name of each resource flavor and the accelerator that its node labels name."""
    for item in _items(api, f"{KUEUE}/resourceflavors"):
        labels: dict[str, str] = item["spec"].get("nodeLabels", {})
        product = next((labels[name] for name in PRODUCT_LABELS if name in labels), "")
        yield item["metadata"]["name"], short_name(product) if product else item["metadata"]["name"]


def gang_from(item: Object, flavors: dict[str, str]) -> Gang | None:
    """Read the gang of a Workload; None where it asks for no accelerators."""
    meta, status = item["metadata"], item.get("status", {})
    count = sum(pods["count"] * accelerators_of(pods["template"]["spec"])[1] for pods in item["spec"]["podSets"])
    if not count:
        return None
    conditions: list[Object] = status.get("conditions", [])
    marks = {mark["type"]: mark for mark in conditions if mark["status"] == "True"}
    over = "Finished" if "Finished" in marks else "Evicted" if item["spec"].get("active") is False else ""
    return Gang(
        id=meta["uid"],
        tenant=meta["namespace"],
        accelerator=_given(status, flavors),
        count=count,
        kind=meta.get("labels", {}).get(_CLASS, ""),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        started=_since(marks, "Admitted"),
        ended=_since(marks, over),
    )


def _given(status: Object, flavors: dict[str, str]) -> str:
    """Return the accelerator of the first flavor that was assigned for an extended resource."""
    admission: Object = status.get("admission") or {}
    shares: list[Object] = admission.get("podSetAssignments", [])
    for share in shares:
        given: dict[str, str] = share.get("flavors", {})
        for resource, flavor in given.items():
            if "/" in resource:
                return flavors.get(flavor, flavor)
    return ""


def _since(marks: dict[str, Object], kind: str) -> datetime | None:
    return datetime.fromisoformat(marks[kind]["lastTransitionTime"]) if kind in marks else None


def _gang_of_pod(item: Object, accelerators: dict[str, str]) -> Gang | None:
    """Read a pod as a gang of its own; None where a Workload counts it or it asks for no accelerators."""
    labels: dict[str, str] = item["metadata"].get("labels", {})
    pod = None if any(name.startswith(_COUNTED) for name in labels) else pod_from(item)
    if pod is None:
        return None
    return Gang(
        id=item["metadata"]["uid"],
        tenant=pod.tenant,
        accelerator=accelerators.get(pod.node, ""),
        count=pod.count,
        kind=labels.get(_CLASS, ""),
        created=pod.created,
        started=pod.started,
        ended=pod.ended,
    )
