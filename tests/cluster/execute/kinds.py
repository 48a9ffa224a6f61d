"""Kinds that projects bring which do not run here, cut down to the fields that are read or written.

The schemas are those of the published CRDs: KEDA 2.21.0 (keda.sh_scaledobjects), KServe 0.16.0 (its smaller CRD, in
which `spec` is one value) and Karpenter 1.14.0 (autoscaling.x-k8s.io_capacitybuffers). Their webhooks are not there.
"""

from __future__ import annotations

from typing import Any

from gangplan.errors import ConflictError, NotFoundError
from gangplan.kube.api import Api, listed

Object = dict[str, Any]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_COUNT = {"type": "integer", "format": "int32", "minimum": 0}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_ONE_VALUE = {**_OPEN, "x-kubernetes-map-type": "atomic"}
_REFERENCE = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}},
    "required": ["name"],
}

SCALED_OBJECT = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": _REFERENCE,
        "minReplicaCount": _COUNT,
        "maxReplicaCount": {**_COUNT, "minimum": 1},
        "idleReplicaCount": _COUNT,
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["metadata", "type"],
                "properties": {
                    "type": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    },
}
CAPACITY_BUFFER = {
    "type": "object",
    "properties": {
        "provisioningStrategy": {"type": "string", "default": "buffer.x-k8s.io/active-capacity"},
        "podTemplateRef": _REFERENCE,
        "replicas": _COUNT,
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.podTemplateRef) || has(self.replicas)",
            "message": "If podTemplateRef is set, replicas or limits must also be set",
        }
    ],
}


def crd(group: str, version: str, kind: str, spec: Object) -> Object:
    """Return the definition of a kind with a status of its own."""
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/autoscaler"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": _ONE_VALUE}}
                    },
                }
            ],
        },
    }


KINDS = (
    crd("keda.sh", "v1alpha1", "ScaledObject", SCALED_OBJECT),
    crd("serving.kserve.io", "v1beta1", "InferenceService", _ONE_VALUE),
    crd("autoscaling.x-k8s.io", "v1beta1", "CapacityBuffer", CAPACITY_BUFFER),
)


def serve(api: Api) -> None:
    """Let the cluster serve these kinds, unless it has them already."""
    for one in KINDS:
        try:
            api.create(CRDS, one)
        except ConflictError:
            continue


def served(api: Api) -> bool:
    """Whether the cluster serves them all by now."""
    return all(_serves(api, one["spec"]) for one in KINDS)


def _serves(api: Api, spec: Object) -> bool:
    try:
        found = api.get(f"/apis/{spec['group']}/{spec['versions'][0]['name']}")
    except NotFoundError:
        return False
    return any(one["name"] == spec["names"]["plural"] for one in listed(found, "resources"))
