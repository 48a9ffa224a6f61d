"""The Kubernetes objects of the agent, for any namespace and image; kustomize reads the folder `manifests`."""

from __future__ import annotations

from importlib.resources import files

import yaml

from gangplan.kube import Object

_FILES = ("rbac", "daemonset")
_SHIPPED, _IMAGE = "gangplan", "gangplan"


def power_manifests(namespace: str = _SHIPPED, image: str = _IMAGE) -> list[Object]:
    """Return the agent's service account, its role and binding, and its DaemonSet."""
    folder = files("gangplan.execute.green") / "manifests"
    documents = (yaml.safe_load_all((folder / f"{name}.yaml").read_text()) for name in _FILES)
    return [_moved(item, namespace, image) for document in documents for item in document]


def _moved(item: Object, namespace: str, image: str) -> Object:
    """Return an object for another namespace and image; each namespace has a binding of its own."""
    if "namespace" in item["metadata"]:
        item["metadata"]["namespace"] = namespace
    for subject in item.get("subjects", ()):
        subject["namespace"] = namespace
    if item["kind"] == "ClusterRoleBinding" and namespace != _SHIPPED:
        item["metadata"]["name"] += f"-{namespace}"
    if item["kind"] == "DaemonSet":
        item["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return item
