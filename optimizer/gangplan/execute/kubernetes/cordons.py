"""Nodes closed to new pods and opened again: only what we closed is opened, and what others closed stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gangplan.errors import ConflictError, NotFoundError, RejectedError
from gangplan.execute.kubernetes.seen import BOUND, holds_its_node
from gangplan.kube import CORDONED_AT, NODES, PODS, Api, Object, part, writing

_TRIES = 5


def cordon(api: Api, node: str, now: datetime, *, dry_run: bool = False) -> None:
    """Close a node to new pods, with the moment as an annotation; one that we closed stays as it is.

    Raises RejectedError where somebody else has closed it, ConflictError where it is gone.
    """

    def change(item: Object) -> Object | None:
        if not part(item, "spec").get("unschedulable"):
            return {"metadata": {"annotations": {CORDONED_AT: now.isoformat()}}, "spec": {"unschedulable": True}}
        if CORDONED_AT not in part(item, "metadata", "annotations"):
            raise RejectedError(f"node {node}: somebody else has cordoned it")
        return None

    _change(api, node, change, dry_run=dry_run)


def uncordon(api: Api, node: str, *, dry_run: bool = False) -> None:
    """Open a node that we closed; raises ConflictError where it is gone."""

    def change(item: Object) -> Object | None:
        if CORDONED_AT not in part(item, "metadata", "annotations"):
            return None
        return {"metadata": {"annotations": {CORDONED_AT: None}}, "spec": {"unschedulable": None}}

    _change(api, node, change, dry_run=dry_run)


def require_free(api: Api, node: str) -> None:
    """Raise ConflictError unless a node, as it is at this moment, is closed by us and no pod holds it."""
    try:
        item = api.get(f"{NODES}/{node}")
    except NotFoundError:
        return
    if not part(item, "spec").get("unschedulable") or CORDONED_AT not in part(item, "metadata", "annotations"):
        raise ConflictError(f"node {node}: is not cordoned by us any more")
    pods = api.items(PODS, fieldSelector=f"spec.nodeName={node},{BOUND}")
    busy = next((pod["metadata"]["name"] for pod in pods if holds_its_node(pod)), "")
    if busy:
        raise ConflictError(f"node {node}: pod {busy} is on it")


def _change(api: Api, node: str, change: Callable[[Object], Object | None], *, dry_run: bool) -> None:
    """Write a change of a node as it was read; a node that was changed in between is read again."""
    path, query = f"{NODES}/{node}", writing(dry_run=dry_run)
    for left in reversed(range(_TRIES)):
        try:
            item = api.get(path)
            wanted = change(item)
            if wanted is not None:
                version = item["metadata"]["resourceVersion"]
                api.merge(path, wanted | {"metadata": wanted["metadata"] | {"resourceVersion": version}}, **query)
        except NotFoundError:
            raise ConflictError(f"node {node}: is gone") from None
        except ConflictError:
            if not left:
                raise
        else:
            return
