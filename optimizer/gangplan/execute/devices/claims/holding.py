"""A gang's ResourceClaims, one for each of its pods, each kept by a keeper pod until the gang gives them back.

Pods of the gang name the claims and run beside the keepers, on the same devices. We never write an allocation
ourselves: the scheduler keeps its own in memory for a moment, and would give the same devices out again
(docs/decisions/0019-scheduler-allocates.md has the measurement).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gangplan.errors import ConflictError, NotFoundError
from gangplan.kube import Api, Object
from gangplan.types import require_at_least, require_name

GANG = "gangplan.io/gang"
_GROUP = "resource.k8s.io/v1"
_IMAGE = "registry.k8s.io/pause:3.10"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedGang:
    """Equal pods that need so many devices each, of a device class, and of those what a CEL expression selects.

    `priority_class` is that of the keepers: it should be the gang's own, so that nobody takes what it was granted.
    """

    namespace: str
    name: str
    pods: int
    devices: int
    device_class: str = "gpu.nvidia.com"
    expression: str = ""
    priority_class: str = ""
    tolerations: tuple[Object, ...] = field(default=())

    def __post_init__(self) -> None:
        require_name("gang.name", self.name)
        require_at_least("gang.pods", self.pods, 1)
        require_at_least("gang.devices", self.devices, 1)

    @property
    def claims(self) -> tuple[str, ...]:
        """The names of its claims: the pod of each number names that one in `resourceClaims`."""
        return tuple(f"{self.name}-{index}" for index in range(self.pods))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The node of each claim that has its devices; the gang may start when it is `whole`."""

    gang: ClaimedGang
    nodes: dict[str, str]

    @property
    def whole(self) -> bool:
        """Whether every claim has its devices."""
        return len(self.nodes) == self.gang.pods


def hold_claims(api: Api, gang: ClaimedGang, now: datetime, *, patience: timedelta | None = None) -> Held:
    """Hold the gang's devices, and return what it has; called again, it goes on from what there is.

    A gang that is not whole after `patience` gives everything back, so that parts of gangs never wait for each other.
    """
    for claim in gang.claims:
        with suppress(ConflictError):
            api.create(_claims(gang), _claim(gang, claim))
        with suppress(ConflictError):
            api.create(_pods(gang), _keeper(gang, claim))
    held = held_claims(api, gang)
    if patience is None or held.whole:
        return held
    first = min(
        (datetime.fromisoformat(one["metadata"]["creationTimestamp"]) for one in _keepers(api, gang)), default=now
    )
    if now - first < patience:
        return held
    give_back_claims(api, gang)
    return Held(gang=gang, nodes={})


def held_claims(api: Api, gang: ClaimedGang) -> Held:
    """Return which of the gang's claims have devices that a keeper has."""
    kept = {one["metadata"]["name"]: one["spec"].get("nodeName", "") for one in _keepers(api, gang)}
    items = api.items(_claims(gang), labelSelector=f"{GANG}={gang.name}")
    given = {one["metadata"]["name"] for one in items if one.get("status", {}).get("allocation")}
    return Held(gang=gang, nodes={name: node for name, node in kept.items() if node and name in given})


def give_back_claims(api: Api, gang: ClaimedGang) -> None:
    """Give the gang's devices back; pods of the gang that still run keep theirs until they end."""
    for path in (_pods(gang), _claims(gang)):
        for claim in gang.claims:
            with suppress(NotFoundError):
                api.delete(f"{path}/{claim}", gracePeriodSeconds=0)


def _keepers(api: Api, gang: ClaimedGang) -> Iterator[Object]:
    """Yield the keepers that are not on their way out."""
    items = api.items(_pods(gang), labelSelector=f"{GANG}={gang.name}")
    return (one for one in items if "deletionTimestamp" not in one["metadata"])


def _claims(gang: ClaimedGang) -> str:
    return f"/apis/{_GROUP}/namespaces/{gang.namespace}/resourceclaims"


def _pods(gang: ClaimedGang) -> str:
    return f"/api/v1/namespaces/{gang.namespace}/pods"


def _claim(gang: ClaimedGang, name: str) -> Object:
    wanted: Object = {
        "deviceClassName": gang.device_class,
        "allocationMode": "ExactCount",
        "count": gang.devices,
    }
    if gang.expression:
        wanted["selectors"] = [{"cel": {"expression": gang.expression}}]
    return {
        "apiVersion": _GROUP,
        "kind": "ResourceClaim",
        "metadata": {"name": name, "labels": {GANG: gang.name}},
        "spec": {"devices": {"requests": [{"name": "accelerators", "exactly": wanted}]}},
    }


def _keeper(gang: ClaimedGang, claim: str) -> Object:
    spec: Object = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "tolerations": list(gang.tolerations),
        "resourceClaims": [{"name": "held", "resourceClaimName": claim}],
        "containers": [
            {
                "name": "pause",
                "image": _IMAGE,
                "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "claims": [{"name": "held"}]},
            }
        ],
    }
    if gang.priority_class:
        spec["priorityClassName"] = gang.priority_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": claim, "labels": {GANG: gang.name}},
        "spec": spec,
    }
