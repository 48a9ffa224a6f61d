"""Plain pods that are one gang: the group that Kueue knows them as is named like the reservation that they adopt.

Kueue finds a pod's part of a group by a hash that its webhook writes into the pod, so that a dry run of each pod's
creation gives the name under which it is to be reserved.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import groupby

from gangplan.errors import ConflictError, InputError
from gangplan.kube import Api, Object
from gangplan.reserve.kueue import objects

_MOST_ROLES = 8


def pods_of(manifest: Object) -> list[Object]:
    """Return the pods of a List, or the one pod; none where it is neither."""
    if manifest.get("kind") == "Pod":
        return [manifest]
    if manifest.get("kind") != "List":
        return []
    items: list[Object] = manifest.get("items") or []
    other = next((item.get("kind", "") for item in items if item.get("kind") != "Pod"), None)
    if other is not None or not items:
        raise InputError("manifest.items", other or "none", "make up no gang: give a List of Pods alone")
    return items


def pod_sets_of_group(api: Api, namespace: str, pods: list[Object]) -> list[Object]:
    """Return the pod sets that Kueue will find in a group of pods: those that are alike are one."""
    tried = [_tried(api, namespace, pod, len(pods)) for pod in pods]
    by_role = sorted(tried, key=_role)
    pod_sets: list[Object] = []
    for role, alike in groupby(by_role, key=_role):
        same = list(alike)
        pod_sets.append({"name": role, "count": len(same), "template": {"spec": _plain(same[0]["spec"])}})
    if len(pod_sets) > _MOST_ROLES:
        raise InputError(
            "manifest.items", len(pod_sets), f"differ too much: a group has up to {_MOST_ROLES} kinds of pods"
        )
    return pod_sets


def dry_run(api: Api, path: str, body: Object) -> Object:
    """Let the API server complete an object without creating it, whether or not there is one of that name."""
    try:
        return api.create(path, body, dryRun="All")
    except ConflictError:
        other = deepcopy(body)
        other["metadata"]["generateName"] = f"{other['metadata'].pop('name')}-"
        return api.create(path, other, dryRun="All")


def _tried(api: Api, namespace: str, pod: Object, total: int) -> Object:
    marks = {objects.QUEUE_NAME: "dry-run", objects.POD_GROUP: "dry-run"}
    return dry_run(api, path(namespace), marked(pod, marks, {objects.POD_GROUP_TOTAL: str(total)}))


def _role(pod: Object) -> str:
    notes: dict[str, str] = pod["metadata"].get("annotations", {})
    role = notes.get(objects.ROLE_HASH)
    if role is None:
        raise InputError(
            "manifest", pod["metadata"].get("name", "pod"), "is not looked at by Kueue: switch its integration `pod` on"
        )
    return role


def _plain(spec: Object) -> Object:
    """Return a pod's spec without what was added for this one pod."""
    kept = {name: value for name, value in spec.items() if name not in ("schedulingGates", "volumes")}
    bare = [{k: v for k, v in part.items() if k != "volumeMounts"} for part in spec["containers"]]
    return kept | {"containers": bare}


def marked(pod: Object, labels: dict[str, str], notes: dict[str, str]) -> Object:
    """Return a pod with labels and annotations added."""
    body = deepcopy(pod)
    meta: Object = body["metadata"]
    meta["labels"] = (meta.get("labels") or {}) | labels
    meta["annotations"] = (meta.get("annotations") or {}) | notes
    return body


def path(namespace: str) -> str:
    """Return where pods are created."""
    return f"/api/v1/namespaces/{namespace}/pods"
