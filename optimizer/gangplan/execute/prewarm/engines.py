"""The kinds of objects that hold a minimum: where they are, what they take, and what is written to them.

What each kind hides: an autoscaler takes replicas of its Deployment back, so only minimums are written, and to the
object that people made, not to an autoscaler that KEDA or KServe makes of it and rewrites. A HorizontalPodAutoscaler
takes 0 only where the cluster allows it and it has an Object or External metric, KEDA only with a trigger other than
CPU and memory; KServe counts 0 as 1 unless Knative or KEDA scales (kserve#3514). KServe's smaller CRD holds `spec` as
one value: to apply a part of it would delete the rest, so others' objects are patched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gangplan.execute.prewarm.settings import Keda, Where
from gangplan.kube import EXECUTOR, Object, is_placeholder

PAUSED = "autoscaling.keda.sh/paused-replicas"
_KSERVE = "serving.kserve.io/"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One kind: its API, the path of its minimum and of its maximum, and what each is where nothing is said."""

    kind: str
    version: str
    plural: str
    minimum: tuple[str, ...]
    default: int = 0
    maximum: tuple[str, ...] = ()
    most: int | None = None
    ours: bool = False  # we make it, so that it need not be there

    def path(self, where: Where) -> str:
        """Return the path of one object."""
        return f"{self.api}/namespaces/{where.namespace}/{self.plural}/{where.name}"

    @property
    def api(self) -> str:
        """The path of its API."""
        return f"/api/{self.version}" if "/" not in self.version else f"/apis/{self.version}"

    @property
    def field(self) -> str:
        """The minimum's field as the cluster calls it."""
        return "." + ".".join(self.minimum)

    def minimum_of(self, item: Object) -> int:
        """Return an object's minimum."""
        return _number(item, self.minimum, self.default)

    def maximum_of(self, item: Object) -> int | None:
        """Return the most that an object takes; None: as many as one likes."""
        most = _number(item, self.maximum, -1) if self.maximum else -1
        return most if most > 0 else self.most

    def owner_of(self, item: Object) -> str:
        """Return the manager who owns the minimum and is not us; empty where nobody else does."""
        marks = item["metadata"].get("managedFields", ())
        return next((one["manager"] for one in marks if one["manager"] != EXECUTOR and self._owned(one)), "")

    def _owned(self, mark: Object) -> bool:
        fields: Object | None = mark.get("fieldsV1")
        for name in self.minimum:
            fields = None if fields is None else fields.get(f"f:{name}")
            if fields == {}:  # the whole of it, and so what is in it
                return not mark.get("subresource")
        return False

    def patch(self, where: Where, number: int, item: Object) -> Object:
        """Return the change of an object, as it was read, to that minimum."""
        value: Object | int = number
        for name in reversed(self.minimum):
            value = {name: value}
        meta: Object = {"resourceVersion": item["metadata"]["resourceVersion"]}
        if isinstance(where, Keda) and (where.hold or pauser_of(item) == EXECUTOR):
            meta["annotations"] = {PAUSED: str(number) if where.hold else None}
        return {"metadata": meta, **dict[str, Any](value if isinstance(value, dict) else {})}


def _number(item: Object, path: tuple[str, ...], default: int) -> int:
    value: Object | int | None = item
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else default


ENGINES: Mapping[str, Engine] = {
    "hpa": Engine(
        kind="HorizontalPodAutoscaler",
        version="autoscaling/v2",
        plural="horizontalpodautoscalers",
        minimum=("spec", "minReplicas"),
        default=1,
        maximum=("spec", "maxReplicas"),
    ),
    "keda": Engine(
        kind="ScaledObject",
        version="keda.sh/v1alpha1",
        plural="scaledobjects",
        minimum=("spec", "minReplicaCount"),
        maximum=("spec", "maxReplicaCount"),
        most=100,
    ),
    "kserve": Engine(
        kind="InferenceService",
        version="serving.kserve.io/v1beta1",
        plural="inferenceservices",
        minimum=("spec", "predictor", "minReplicas"),
        default=1,
        maximum=("spec", "predictor", "maxReplicas"),
    ),
    "capacity_buffer": Engine(
        kind="CapacityBuffer",
        version="autoscaling.x-k8s.io/v1beta1",
        plural="capacitybuffers",
        minimum=("spec", "replicas"),
        ours=True,
    ),
    "placeholders": Engine(
        kind="Deployment",
        version="apps/v1",
        plural="deployments",
        minimum=("spec", "replicas"),
        ours=True,
    ),
}


def floor_of(kind: str, item: Object, takes_zero: Callable[[], bool]) -> tuple[int, str]:
    """Return the least that an object takes, and why that is not 0; `takes_zero` asks the cluster itself."""
    idle = item["spec"].get("idleReplicaCount")
    if kind == "keda" and isinstance(idle, int):
        return idle + 1, f"its minimum stays above its idleReplicaCount of {idle}"
    why = _no_zero(kind, item)
    if not why and kind == "hpa" and not takes_zero():
        why = "the cluster lacks the feature gate HPAScaleToZero"
    return (1, f"its minimum stays at 1, as {why}") if why else (0, "")


def _no_zero(kind: str, item: Object) -> str:
    """Return why an object, as it says itself, does not take 0; empty where it does."""
    spec, notes = item["spec"], item["metadata"].get("annotations", {})
    if kind == "hpa" and not {"Object", "External"} & {one.get("type") for one in spec.get("metrics") or ()}:
        return "it has no metric of type Object or External to come back from 0 by"
    if kind == "keda" and {one.get("type") for one in spec.get("triggers") or ()} <= {"cpu", "memory"}:
        return "it has no trigger but CPU and memory, which 0 replicas do not use"
    if kind == "kserve" and notes.get(f"{_KSERVE}autoscalerClass") not in ("keda", "none"):
        mode = notes.get(f"{_KSERVE}deploymentMode") or item.get("status", {}).get("deploymentMode")
        return "" if mode in ("Serverless", "Knative") else "KServe counts 0 as 1 unless Knative or KEDA scales"
    return ""


def follows_another(kind: str, item: Object) -> str:
    """Return what an object's minimum really follows, where it is not the object itself; else nothing."""
    if ENGINES[kind].ours and not is_placeholder(item):
        return f"{ENGINES[kind].kind} {item['metadata']['name']} is somebody else's: give the buffer another name"
    owners = [one for one in item["metadata"].get("ownerReferences") or () if one.get("controller")]
    if kind == "hpa" and owners:
        return f"it is made by {owners[0]['kind']} {owners[0]['name']}, which takes changes back: name that"
    if kind == "kserve" and item["metadata"].get("annotations", {}).get(f"{_KSERVE}autoscalerClass") == "external":
        return "it leaves its replicas to an autoscaler of yours (autoscalerClass: external): name that"
    return ""


def held_of(where: Where, item: Object) -> int | None:
    """Return the number that we hold a ScaledObject at; None where nothing holds it."""
    text = item["metadata"].get("annotations", {}).get(PAUSED, "")
    return int(text) if isinstance(where, Keda) and str(text).isdecimal() else None


def pauser_of(item: Object) -> str:
    """Return the manager who holds a ScaledObject at a number; empty where nobody does."""
    marks = item["metadata"].get("managedFields", ())
    return next((one["manager"] for one in marks if f"f:{PAUSED}" in str(one.get("fieldsV1"))), "")
