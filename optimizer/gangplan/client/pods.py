"""What brings the pods of a step onto the slots of a reservation, as plain Kubernetes values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gangplan.errors import InputError, StaleTokenError
from gangplan.kube import RESERVATION as RESERVATION, Object
from gangplan.types import WHOLE_GPU, GangRequest, Reservation

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

HOST = "kubernetes.io/hostname"
"""The node label that a placement's node is looked for under."""

POD_SET = "gangplan.io/pod-set"
"""Beside RESERVATION, the label of pods that run on a reservation: which of its pod sets they are."""

MASTER_PORT = "29500"
"""Where the first pod of a gang is met by the others, as torchrun has it."""

VARIABLES = tuple(f"GANGPLAN_{name}" for name in ("RESERVATION", "TOKEN", "REQUEST_KEY", "GPUS", "PODS", "NODES"))
"""By these a program knows its slots."""


@dataclass(frozen=True, kw_only=True)
class PodPlace:
    """What each pod of a pod set carries, so that it runs where its slots are, and there alone.

    `node_affinity` is a pod's `affinity.nodeAffinity`, empty where no nodes are known; `spread` its
    `topologySpreadConstraints`: as many pods on each node as were reserved there. `resources` are the limits of the
    container that uses the slots. Without the `annotations`, Kueue would count the pods a second time, beside their
    reservation, where it chooses nodes. After `deadline` nothing can keep the slots, so that no pod may run past it.
    """

    labels: dict[str, str]
    annotations: dict[str, str]
    node_selector: dict[str, str]
    node_affinity: Object
    tolerations: tuple[Object, ...]
    spread: tuple[Object, ...]
    resources: dict[str, str]
    environment: dict[str, str]
    deadline: datetime


def pod_place(ledger: Ledger, reservation: Reservation, *, pod_set: int = 0, node_label: str = HOST) -> PodPlace:
    """Return what brings pods onto the slots of a granted reservation.

    Parameters
    ----------
    pod_set
        Which of the request's pod sets the pods are, by its place in the request.
    node_label
        The label of the cluster's nodes that has the names under which the ledger knows them.

    Raises
    ------
    StaleTokenError
        Where the reservation holds no slots now.
    """
    from gangplan.reserve import KueueLedger, hand_out, resource_of  # a step that only holds slots starts without

    request = reservation.request
    if reservation.token is None or reservation.granted_at is None:
        raise StaleTokenError(f"reservation {reservation.id}: is {reservation.state}, so nothing may start on it")
    if not 0 <= pod_set < len(request.pod_sets):
        raise InputError("pod_set", pod_set, f"is none of the request: it has {len(request.pod_sets)}, from 0")
    on = {place.node: place.pods for place in reservation.placements if place.pod_set == pod_set and place.node}
    resource = resource_of(request.slot)
    notes, selector, tolerations = (
        dict[str, str](),
        dict[str, str](),
        (Object(key=resource, operator="Exists", effect="NoSchedule"),),
    )
    if isinstance(ledger, KueueLedger):
        handout = hand_out(ledger, reservation.id)
        notes, selector, tolerations = handout.annotations, handout.node_selector, handout.tolerations
        resource = ledger.place.resource if request.slot == WHOLE_GPU else resource
    marks = {RESERVATION: str(reservation.id), POD_SET: str(pod_set)}
    return PodPlace(
        labels=marks,
        annotations=notes,
        node_selector=selector,
        node_affinity=_affinity(on, node_label),
        tolerations=tolerations,
        spread=_spread(on, node_label, marks),
        resources={resource: str(request.pod_sets[pod_set].gpus_per_pod)},
        environment=environment_of(reservation),
        deadline=reservation.granted_at + request.limit / _slowest(request),
    )


def environment_of(reservation: Reservation) -> dict[str, str]:
    """Return the variables by which a program knows its slots; the nodes are in the order of the placements."""
    request = reservation.request
    nodes = dict.fromkeys(place.node for place in reservation.placements if place.node)
    values = (
        reservation.id,
        reservation.token,
        request.request_key,
        request.gpus,
        sum(pods.count for pods in request.pod_sets),
        ",".join(nodes),
    )
    return dict(zip(VARIABLES, map(str, values), strict=True))


def rendezvous_of(reservation: Reservation, pod_node: str = "") -> dict[str, str]:
    """Return by which variables the pods of a gang find one another, as torch.distributed reads them.

    Parameters
    ----------
    pod_node
        The node of the pod that asks; it has a rank where each node has one pod.
    """
    pods = sum(pods.count for pods in reservation.request.pod_sets)
    nodes = [place.node for place in reservation.placements if place.node]
    found = {"MASTER_PORT": MASTER_PORT, "NNODES": str(pods)}
    if pods == 1:
        return {**found, "MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}
    if nodes:
        found["MASTER_ADDR"] = nodes[0]
    if len(nodes) == pods == len(set(nodes)) and pod_node in nodes:
        found["NODE_RANK"] = str(nodes.index(pod_node))
    return found


def joined_affinity(own: Object, added: Object) -> Object:
    """Return a node affinity that asks for all that two of them ask for.

    Nodes match any term of an affinity, and all expressions of a term: so each term gets those of the other one.
    """
    key, terms = "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    if not added or not own.get(key):
        return own | added
    [extra] = added[key][terms]
    joined: list[Object] = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *extra["matchExpressions"]]}
        for term in own[key][terms]
    ]
    return {**own, key: {terms: joined}}


def _affinity(on: Mapping[str, int], label: str) -> Object:
    """Keep pods to these nodes."""
    if not on:
        return {}
    term = {"matchExpressions": [{"key": label, "operator": "In", "values": sorted(on)}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}


def _spread(on: Mapping[str, int], label: str, marks: dict[str, str]) -> tuple[Object, ...]:
    """Give each node as many pods as it has slots for; where that differs by node, Kubernetes has no word for it."""
    if len(on) < 2 or len(set(on.values())) > 1:
        return ()
    rule = {"maxSkew": 1, "topologyKey": label, "whenUnsatisfiable": "DoNotSchedule"}
    return ({**rule, "labelSelector": {"matchLabels": marks}},)


def _slowest(request: GangRequest) -> float:
    """Return the speed of the slowest accelerator that the request may get: its walltime is the longest."""
    return min(request.speed.get(name, 1.0) for name in request.accelerators)
