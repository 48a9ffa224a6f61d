"""The Workload that asks for what a request wants; first, what Kueue cannot keep is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from gangplan.clock import to_us
from gangplan.errors import InputError
from gangplan.kube import ATTEMPT, RESERVATION, Object
from gangplan.reserve.codec import annotation_of, id_of
from gangplan.reserve.kueue.objects import names
from gangplan.reserve.kueue.objects.queues import Flavor, View
from gangplan.types import GangRequest, Level


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the reservations of a ledger are, and how it behaves there."""

    namespace: str
    queue: str  # the LocalQueue
    resource: str = names.GPU
    settle: timedelta = timedelta(seconds=2)  # how long a submit waits for Kueue's first decision
    ahead: timedelta = timedelta(minutes=5)  # how long before its window a gang is queued, to hold its slots until then


_MOST_POD_SETS = 18
_PRIORITIES = 2**31


def refuse(request: GangRequest, view: View) -> list[Flavor]:
    """Return the flavors that serve a request, or refuse what Kueue cannot keep."""
    flavors = view.fitting(request.accelerators)
    if not flavors:
        queued = [view.flavors[flavor] for flavor in view.mine.quotas if flavor in view.flavors]
        known = sorted(name for flavor in queued for name in flavor.accelerators)
        raise InputError(
            "accelerators",
            ", ".join(request.accelerators),
            f"are in no flavor of ClusterQueue {view.mine.name}: use {', '.join(known) or 'another queue'}",
        )
    _refuse_order(request, flavors)
    _refuse_elastic(request)
    _refuse_topology(request, flavors)
    if request.priority_class and request.priority_class not in view.classes:
        known = ", ".join(sorted(view.classes)) or "none: make one"
        raise InputError("priority_class", request.priority_class, f"is no WorkloadPriorityClass: there are {known}")
    if request.speed:
        raise InputError("speed", request.speed, "cannot be kept by Kueue, whose walltime is one for all: leave it out")
    if not request.preemptible and view.may_lose:
        raise InputError("preemptible", False, f"cannot be promised here ({view.may_lose}): submit it as preemptible")
    if request.checkpoint is not None:
        raise InputError(
            "checkpoint", request.checkpoint, "cannot be kept: Kueue takes slots without notice: leave it out"
        )
    return flavors


def refuse_late(request: GangRequest, now: datetime) -> None:
    """Refuse a new request that could not start in time any more."""
    if request.latest_start is not None and request.latest_start < now:
        raise InputError("latest_start", request.latest_start.isoformat(), "is past: give a later one, or none")
    if request.deadline is not None and request.deadline - request.limit < now:
        raise InputError("deadline", request.deadline.isoformat(), "cannot be met any more: give a later one, or none")


def _refuse_order(request: GangRequest, flavors: list[Flavor]) -> None:
    """Refuse an order of preference that is not the queue's: Kueue tries flavors in its own."""
    wanted = [name for name in request.accelerators if any(name in flavor.accelerators for flavor in flavors)]
    served = [next(name for name in wanted if name in flavor.accelerators) for flavor in flavors]
    if served != sorted(served, key=wanted.index):
        raise InputError(
            "accelerators",
            ", ".join(request.accelerators),
            f"are preferred in another order than the queue tries them: give {', '.join(dict.fromkeys(served))}",
        )


def _refuse_elastic(request: GangRequest) -> None:
    """Refuse gangs that shrink or grow, and more pod sets than a Workload has."""
    if any(pods.least != pods.count or pods.most != pods.count for pods in request.pod_sets):
        raise InputError(
            "pod_sets", "min_count, max_count", "cannot change on Kueue while it is reserved: leave them out"
        )
    if len(request.pod_sets) > _MOST_POD_SETS:
        raise InputError("pod_sets", len(request.pod_sets), f"are too many: a Workload has up to {_MOST_POD_SETS}")


def _refuse_topology(request: GangRequest, flavors: list[Flavor]) -> None:
    """Refuse a wish for closeness where Kueue does not know where the nodes stand."""
    wish = request.topology
    if wish is None or wish.level is Level.ZONE:
        return
    blind = [flavor.name for flavor in flavors if flavor.level(wish.level) is None]
    if blind:
        raise InputError("topology", wish, f"is unknown to flavor {blind[0]}: give it a Topology with such a level")
    if wish.required and len(request.pod_sets) > 1:
        raise InputError("topology", wish, "holds for each pod set alone on Kueue: ask for one pod set, or prefer it")


def workload_of(
    request: GangRequest,
    place: Place,
    now: datetime,
    *,
    flavors: list[Flavor],
    classes: Mapping[str, int],
    chooses: bool = True,
    pod_sets: list[Object] | None = None,
    attempt: str = "",
) -> Object:
    """Return the Workload of a request; one whose window is far away is not queued yet.

    Without `pod_sets`, which are those of a Job that is to adopt it, they are made from the request; where every flavor
    of the queue will do (`chooses` is false) nothing keeps them to `flavors`. What we write of the reservation stands
    in the first pod template where that is ours: Kueue applies a Workload's own labels and annotations anew with each
    write of its status, and with any of ours there, a reservation costs the API server a sixth more.
    """
    annotations = {RESERVATION: f"{to_us(now)} {place.queue} {annotation_of(request)}"}
    if attempt:
        annotations[ATTEMPT] = f"0 0 0 {attempt}"
    metadata: Object = {"name": id_of(request.request_key), "namespace": place.namespace}
    if pod_sets is None:
        pod_sets = [_pod_set(request, index, flavors, chooses) for index in range(len(request.pod_sets))]
        pod_sets[0]["template"]["metadata"] = {"annotations": annotations}
    else:
        metadata["annotations"] = annotations
    spec: Object = {"podSets": pod_sets, "maximumExecutionTimeSeconds": limit_seconds(request, place.ahead)}
    spec |= _priority(request, classes)
    if request.earliest_start is None or now >= request.earliest_start - place.ahead:
        spec["queueName"] = place.queue
    return {"apiVersion": names.VERSION, "kind": "Workload", "metadata": metadata, "spec": spec}


def limit_seconds(request: GangRequest, ahead: timedelta) -> int:
    """Return the hard walltime that Kueue itself keeps, what a window holds before it opens included."""
    waits = ahead if request.earliest_start is not None else timedelta(0)
    return ceil((request.limit + waits).total_seconds())


def _priority(request: GangRequest, classes: Mapping[str, int]) -> Object:
    """Return a request's priority, by its class where it names one."""
    if not -_PRIORITIES <= request.priority < _PRIORITIES:
        raise InputError("priority", request.priority, "is no priority that Kueue knows: it must fit in 32 bits")
    if not request.priority_class:
        return {"priority": request.priority}
    reference = {"group": names.GROUP, "kind": "WorkloadPriorityClass", "name": request.priority_class}
    return {"priority": classes[request.priority_class], "priorityClassRef": reference}


def _pod_set(request: GangRequest, index: int, flavors: list[Flavor], chooses: bool) -> Object:
    pods = request.pod_sets[index]
    gpus = {names.resource_of(request.slot): str(pods.gpus_per_pod)}
    spec: Object = {"containers": [{"name": "held", "resources": {"requests": gpus}}]}
    if chooses and (chosen := node_affinity(flavors)):
        spec["affinity"] = {"nodeAffinity": chosen}
    pod_set: Object = {"name": pod_set_name(index), "count": pods.count, "template": {"spec": spec}}
    if wish := topology_request(request, flavors):
        pod_set["topologyRequest"] = wish
    return pod_set


def pod_set_name(index: int) -> str:
    """Name a pod set by its place in the request."""
    return f"pods-{index}"


def node_affinity(flavors: list[Flavor]) -> Object:
    """Return what keeps Kueue to these flavors: it matches a pod's required affinity with their node labels."""
    terms: list[Any] = []
    for flavor in flavors:
        rules = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(flavor.labels.items())]
        if not rules:  # a flavor without labels fits any pod: no term can say less
            return {}
        terms.append({"matchExpressions": rules})
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def topology_request(request: GangRequest, flavors: list[Flavor]) -> Object:
    """Return the wish for closeness as Kueue knows it; with none, pods still go to the nodes that Kueue chose."""
    wish = request.topology
    if wish is None or wish.level is Level.ZONE:
        return {"unconstrained": True} if all(flavor.levels for flavor in flavors) else {}
    level = flavors[0].level(wish.level)
    return {"required" if wish.required else "preferred": level}
