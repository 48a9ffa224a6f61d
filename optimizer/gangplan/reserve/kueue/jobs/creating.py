"""Jobs and pods are created once: a retry after half of it was done finds its own and goes on."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from gangplan.errors import InputError
from gangplan.kube import Api, ConflictError, Object


def dry_run(api: Api, path: str, body: Object) -> Object:
    """Let the API server complete an object without creating it, whether or not there is one of that name."""
    try:
        return api.create(path, body, dryRun="All")
    except ConflictError:
        other = deepcopy(body)
        other["metadata"]["generateName"] = f"{other['metadata'].pop('name')}-"
        return api.create(path, other, dryRun="All")


def create_once(api: Api, path: str, body: Object, mark: tuple[str, str]) -> Object:
    """Create an object, or return the one of that name that carries the same label; another's is refused by name."""
    name, (label, value) = body["metadata"]["name"], mark
    try:
        return api.create(path, body)
    except ConflictError:
        there = api.get(f"{path}/{name}")
    labels: Mapping[str, str] = there["metadata"].get("labels") or {}
    if labels.get(label) != value:
        raise InputError(
            "manifest.metadata.name", name, f"is another's, not of reservation {value}: delete that one, or rename this"
        )
    return there


def named(body: Object, reservation: str, index: int = 0) -> Object:
    """Return an object with a name of its own: what the API server makes up would be another one on a retry."""
    meta: Object = dict(body["metadata"])
    if not meta.get("name"):
        meta["name"] = f"{meta.pop('generateName', '')}{reservation[:10]}-{index}"
    return body | {"metadata": meta}
