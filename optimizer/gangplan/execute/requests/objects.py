"""The objects by which Kueue asks for nodes of the plan."""

from __future__ import annotations

from gangplan.kube import Object

CLASS = "planned.gangplan.io"
"""The provisioning class of our own: cluster-autoscaler leaves requests of a class that it does not know alone."""

PATH = "/apis/autoscaling.x-k8s.io/v1/provisioningrequests"
TEMPLATES = "/api/v1/podtemplates"
MANAGED = "kueue.x-k8s.io/managed=true"
_VERSION = "kueue.x-k8s.io/v1beta2"
_NAME = "gangplan-planned"


def request_path(namespace: str, name: str) -> str:
    """Return the path of a request."""
    return f"/apis/autoscaling.x-k8s.io/v1/namespaces/{namespace}/provisioningrequests/{name}"


def queue_check(name: str = _NAME) -> list[Object]:
    """Return the admission check with its configuration.

    A ClusterQueue that lists it asks for nodes after it has reserved quota, and admits when they are there.
    """
    group = _VERSION.partition("/")[0]
    return [
        {
            "apiVersion": _VERSION,
            "kind": "ProvisioningRequestConfig",
            "metadata": {"name": name},
            "spec": {"provisioningClassName": CLASS},
        },
        {
            "apiVersion": _VERSION,
            "kind": "AdmissionCheck",
            "metadata": {"name": name},
            "spec": {
                "controllerName": f"{group}/provisioning-request",
                "parameters": {"apiGroup": group, "kind": "ProvisioningRequestConfig", "name": name},
            },
        },
    ]
