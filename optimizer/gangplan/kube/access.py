"""The Kubernetes objects that gangplan needs, for any namespace; kustomize reads the folder `manifests`."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from gangplan.kube.api import Api, Object

_SHIPPED = "gangplan"
_EXECUTORS = ("executor.yaml", "executor-serving.yaml")


def manifests(namespace: str = _SHIPPED, *, controller: bool = False, jobs: bool = False) -> list[Object]:
    """Return the namespace, the service account, the roles and their bindings.

    With `controller` also what runs it, with `jobs` also the role of steps that run Jobs on their gang's slots.
    """
    folder = files("gangplan.kube") / "manifests"
    more = {"controller": controller, "jobs": jobs}
    folders = [folder, *(folder / name for name, wanted in more.items() if wanted)]
    documents = (yaml.safe_load_all((each / name).read_text()) for each in folders for name in _listed(each))
    return [_moved(item, namespace) for document in documents for item in document]


def _listed(folder: Traversable) -> list[str]:
    """Return the files that a folder's kustomization names."""
    return yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]


def rights(namespace: str = _SHIPPED) -> list[tuple[str, str, str, str]]:
    """Return each right that the roles give: namespace (empty: the whole cluster), API group, resource, verb."""
    return _rights(manifests(namespace))


def _rights(items: list[Object]) -> list[tuple[str, str, str, str]]:
    """Return the rights of all roles."""
    return [
        (item["metadata"].get("namespace", ""), group, resource, verb)
        for item in items
        if item["kind"] in ("Role", "ClusterRole")
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def job_rights(namespace: str = _SHIPPED) -> list[tuple[str, str, str]]:
    """Return each right that a step needs which runs Jobs on its gang's slots: API group, resource, verb."""
    own = [item for item in manifests(namespace, jobs=True) if item["metadata"]["name"] == "gangplan-jobs"]
    return [right[1:] for right in _rights(own)]


def executor_manifests(namespace: str = _SHIPPED) -> list[Object]:
    """Return the roles by which plans are carried out and serving follows them, for the account that pipelines have."""
    folder = files("gangplan.kube") / "manifests" / "controller"
    items = [item for name in _EXECUTORS for item in yaml.safe_load_all((folder / name).read_text())]
    for item in items:
        if "roleRef" in item:
            item["metadata"]["name"], item["subjects"][0]["name"] = item["roleRef"]["name"], _SHIPPED
    return [_moved(item, namespace) for item in items]


def executor_rights() -> list[tuple[str, str, str]]:
    """Return each right that quotas and nodes of the whole cluster need: API group, resource, verb."""
    own = [item for item in executor_manifests() if item["metadata"]["name"] == "gangplan-executor"]
    return [right[1:] for right in _rights(own)]


def may(api: Api, namespace: str, group: str, resource: str, verb: str, name: str = "") -> bool:
    """Return whether the API server says that we have a right; an empty namespace is the whole cluster."""
    kind, _, part = resource.partition("/")
    asked: Object = {"namespace": namespace, "group": group, "resource": kind, "verb": verb, "subresource": part}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in {**asked, "name": name}.items() if value}},
    }
    return bool(api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]["allowed"])


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
