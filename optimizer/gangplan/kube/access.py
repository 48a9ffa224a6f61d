"""The Kubernetes objects that gangplan needs, for any namespace; kustomize reads the folder `manifests`."""

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
    documents = (yaml.safe_load_all((folder / f"{name}.yaml").read_text()) for name in _FILES)
    return [_moved(item, namespace) for document in documents for item in document]


def rights(namespace: str = _SHIPPED) -> list[tuple[str, str, str, str]]:
    """Return each right that the roles give: namespace (empty: the whole cluster), API group, resource, verb."""
    return [
        (item["metadata"].get("namespace", ""), group, resource, verb)
        for item in manifests(namespace)
        if item["kind"] in ("Role", "ClusterRole")
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def _moved(item: Object, namespace: str) -> Object:
    """Return an object for another namespace; all namespaces share the cluster's roles, each has its own bindings."""
    meta: dict[str, Any] = item["metadata"]
    if item["kind"] == "Namespace":
        meta["name"] = namespace
    elif meta.get("namespace") == _SHIPPED:
        meta["namespace"] = namespace
    for subject in item.get("subjects", ()):
        subject["namespace"] = namespace
    if item["kind"].endswith("Binding") and meta.get("namespace") != namespace and namespace != _SHIPPED:
        meta["name"] = f"{meta['name']}-{namespace}"
    return item
