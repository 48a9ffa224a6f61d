"""Running pods of a cluster, read and resized in place (`pods/resize`, Kubernetes 1.33 and newer)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from gangplan.errors import ConflictError, NotFoundError, RejectedError
from gangplan.execute.devices.resizing.decide import resizes
from gangplan.execute.devices.resizing.values import CPU, MEBIBYTE, MEMORY, Container, Resize, ResizeRules, RunningPod
from gangplan.extras import needs_extras
from gangplan.kube import Api, Object, writing
from gangplan.types import ContainerUse, WorkloadClass

CLASS = "gangplan.io/workload-class"
AT_FIRST = "gangplan.io/requests-at-first"
_STRATEGIC = "application/strategic-merge-patch+json"
_WAITS = "PodResizePending"


def read_pods(api: Api) -> tuple[RunningPod, ...]:
    """Return the running pods that have a workload class by label."""
    items = api.items("/api/v1/pods", labelSelector=CLASS, fieldSelector="status.phase=Running")
    known = {kind.value for kind in WorkloadClass}
    return tuple(_pod(item) for item in items if item["metadata"]["labels"][CLASS] in known)


def _pod(item: Object) -> RunningPod:
    meta: Object = item["metadata"]
    status: Object = item.get("status", {})
    first: Object = json.loads(meta.get("annotations", {}).get(AT_FIRST, "{}"))
    marks: dict[str, Object] = {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}
    waits = marks.get(_WAITS)
    return RunningPod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        kind=WorkloadClass(meta["labels"][CLASS]),
        qos=status.get("qosClass", ""),
        containers=tuple(_container(one, first.get(one["name"])) for one in item["spec"]["containers"]),
        pending=f"its last resize is {waits['reason']}: {waits.get('message', '')}" if waits else "",
    )


def _container(item: Object, first: Mapping[str, int] | None) -> Container:
    requests = _amounts(item.get("resources", {}).get("requests", {}))
    return Container(name=item["name"], requests=requests, at_first=first or requests)


def _amounts(resources: Mapping[str, str]) -> dict[str, int]:
    """Return CPU in thousandths of a core and memory in bytes."""
    units = {CPU: 1000, MEMORY: 1}
    return {name: int(unit * _exact(resources[name])) for name, unit in units.items() if name in resources}


def _exact(quantity: str) -> Decimal:
    with needs_extras():
        from kubernetes.utils import quantity as quantities
    module: Any = quantities
    return Decimal(module.parse_quantity(quantity))


def resize_all(api: Api, usage: Iterable[ContainerUse], rules: ResizeRules) -> tuple[Resize, ...]:
    """Resize the running pods once, and return all changes with why some were not made.

    A pod that is gone or was made anew meanwhile is left out.
    """
    done: list[Resize] = []
    for change in resizes(read_pods(api), usage, rules):
        made = change
        if not change.waits_for:
            with suppress(ConflictError, NotFoundError):
                made = _resized(api, change)
        done.append(made)
    return tuple(done)


def _resized(api: Api, change: Resize) -> Resize:
    """Resize one container; what the cluster refuses is returned with its words."""
    try:
        resize(api, change)
    except RejectedError as error:
        return Resize(
            pod=change.pod,
            container=change.container,
            before=change.before,
            after=change.after,
            waits_for=f"the cluster refuses it: {error}",
        )
    return change


def resize(api: Api, change: Resize, *, dry_run: bool = False) -> None:
    """Set a container's requests on the running pod; what it came with is written on it first.

    Raises
    ------
    ConflictError
        The pod is another of the same name.
    RejectedError
        The cluster does not resize it, in its words.
    """
    pod = change.pod
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
    query = writing(dry_run=dry_run)
    first = json.dumps({one.name: dict(one.at_first) for one in pod.containers}, sort_keys=True)
    api.merge(path, {"metadata": {"uid": pod.uid, "annotations": {AT_FIRST: first}}}, **query)
    asked = {CPU: f"{change.after[CPU]}m"} if CPU in change.after else {}
    asked |= {MEMORY: _bytes(change.after[MEMORY])} if MEMORY in change.after else {}
    body = {
        "metadata": {"uid": pod.uid},
        "spec": {"containers": [{"name": change.container, "resources": {"requests": asked}}]},
    }
    api.call("PATCH", f"{path}/resize", body, query=query, kind=_STRATEGIC)


def _bytes(amount: int) -> str:
    mebibytes, rest = divmod(amount, MEBIBYTE)
    return str(amount) if rest else f"{mebibytes}Mi"
