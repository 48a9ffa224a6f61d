"""Whole gangs as the cluster remembers them: Kueue's Workloads, and pods that no Workload counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gangplan.errors import NotFoundError
from gangplan.kube.api import Api, Object
from gangplan.kube.inventory import (
    PODS as POD_PATH,
    PRODUCT_LABELS,
    Pod,
    accelerators_of,
    pod_from,
    read_nodes,
    short_name,
)

KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
_COUNTED = "kueue.x-k8s.io/"
_CLASS = "gangplan.io/workload-class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """What asked for accelerators together: whose, how many of which, and when it came, began and ended.

    `accelerator` is empty where nothing says which; `kind` is the workload class that its label names, or empty.
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
    """Return all that the cluster still knows of; a cluster without Kueue has its pods alone."""
    flavors = dict(_flavors(api))
    nodes = {node.name: node.accelerator for node in read_nodes(api)}
    gangs = [gang for item in _items(api, f"{KUEUE}/workloads") if (gang := gang_from(item, flavors)) is not None]
    for item in api.items(POD_PATH):
        labels: dict[str, str] = item["metadata"].get("labels", {})
        pod = None if any(name.startswith(_COUNTED) for name in labels) else pod_from(item)
        if pod is not None:
            gangs.append(_of_pod(item["metadata"]["uid"], pod, nodes.get(pod.node, ""), labels.get(_CLASS, "")))
    return gangs


def _items(api: Api, path: str) -> Iterator[Object]:
    try:
        yield from api.items(path)
    except NotFoundError:  # no Kueue here
        return


def _flavors(api: Api) -> Iterator[tuple[str, str]]:
    """Yield each flavor's accelerator, by its nodes' label."""
    for item in _items(api, f"{KUEUE}/resourceflavors"):
        labels: dict[str, str] = item["spec"].get("nodeLabels", {})
        product = next((labels[name] for name in PRODUCT_LABELS if name in labels), "")
        yield item["metadata"]["name"], short_name(product) if product else item["metadata"]["name"]


def gang_from(item: Object, flavors: dict[str, str]) -> Gang | None:
    """Return the gang of a Workload; None where it asks for no accelerators."""
    meta, status = item["metadata"], item.get("status", {})
    count = sum(one["count"] * accelerators_of(one["template"]["spec"])[1] for one in item["spec"]["podSets"])
    if not count:
        return None
    marks: dict[str, Object] = {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}
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
    """Return the accelerator of the first flavor that was given for an extended resource."""
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


def _of_pod(uid: str, pod: Pod, accelerator: str, kind: str) -> Gang:
    return Gang(
        id=uid,
        tenant=pod.tenant,
        accelerator=accelerator,
        count=pod.count,
        kind=kind,
        created=pod.created,
        started=pod.started,
        ended=pod.ended,
    )
