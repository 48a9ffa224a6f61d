"""The objects that gangplan needs on a cluster, for any namespace; the folder `manifests` is for kustomize."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from gangplan.kube.api import Object

_FILES = ("namespace", "service-account", "role", "cluster-role", "doctor")
_SHIPPED = "gangplan"


def manifests(namespace: str = _SHIPPED) -> list[Object]:
    """Return the namespace, the service account, the roles and their bindings."""
    folder = files("gangplan.kube") / "manifests"
    found: list[Object] = []
    for name in _FILES:
        found += yaml.safe_load_all((folder / f"{name}.yaml").read_text())
    return [_moved(one, namespace) for one in found]


def rights(namespace: str = _SHIPPED) -> list[tuple[str, str, str, str]]:
    """Return each right that they give, as namespace (empty: the cluster), group, resource and verb."""
    return [
        (one["metadata"].get("namespace", ""), group, resource, verb)
        for one in manifests(namespace)
        if one["kind"] in ("Role", "ClusterRole")
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def _moved(one: Object, namespace: str) -> Object:
    """Return an object for another namespace; roles outside it are one for all, their bindings are its own."""
    meta: dict[str, Any] = one["metadata"]
    if one["kind"] == "Namespace":
        meta["name"] = namespace
    elif meta.get("namespace") == _SHIPPED:
        meta["namespace"] = namespace
    for subject in one.get("subjects", ()):
        subject["namespace"] = namespace
    if one["kind"].endswith("Binding") and meta.get("namespace") != namespace and namespace != _SHIPPED:
        meta["name"] = f"{meta['name']}-{namespace}"
    return one
