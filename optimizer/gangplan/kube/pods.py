"""Pods that ask for accelerators: how many, as the scheduler counts them; when they came, ran and were over; where."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gangplan.kube.accelerators import is_accelerator
from gangplan.kube.api import Object, listed, part, whole

PODS = "/api/v1/pods"
WORKLOAD_CLASS = "gangplan.io/workload-class"
PLACEHOLDER = "gangplan.io/placeholder"
PLACEHOLDER_CLASS = "gangplan-placeholder"
"""The label, and the priority class, of pods that keep nodes free: others take their nodes whenever they want them."""

_OVER = ("Succeeded", "Failed", "Unknown")
_REFUSALS = ("UnexpectedAdmissionError", "NodeAffinity", "NodePorts", "NodeShutdown", "TopologyAffinityError")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that asks for accelerators: whose, where, how many of which resource, and when it came, ran and was over.

    `refused`: its node never took it. `guessed`: it is over, and nobody kept since when. `kind` is the workload class
    of its label, or empty.
    """

    uid: str
    tenant: str
    name: str
    node: str
    asks: Mapping[str, int]
    phase: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    refused: bool
    guessed: bool
    kind: str = ""


def requests_of(spec: Object) -> Counter[str]:
    """Return what a pod asks for of each extended resource, as the scheduler counts it.

    All containers run together, beside the sidecars (init containers that are restarted always). The other init
    containers run before them, one by one, each beside the sidecars that stand before it. The larger of both counts.
    """
    main: Counter[str] = Counter()
    for container in listed(spec, "containers"):
        main += _asked(container)
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in listed(spec, "initContainers"):
        own = _asked(container)
        peak |= sidecars + own
        if container.get("restartPolicy") == "Always":
            sidecars += own
    return ((main + sidecars) | peak) + amounts_in(spec.get("overhead"))


def accelerators_in(asks: Mapping[str, int]) -> dict[str, int]:
    """Return the resources that count accelerators."""
    return {name: count for name, count in asks.items() if count > 0 and is_accelerator(name)}


def _asked(container: Object) -> Counter[str]:
    """Return the requests of a container; a limit is the request where there is no other."""
    resources: Object = part(container, "resources")
    return amounts_in({**part(resources, "limits"), **part(resources, "requests")})


def amounts_in(resources: Object | None) -> Counter[str]:
    """Return the extended resources of a list, which alone have a domain in their names."""
    return Counter({sys.intern(name): whole(value) for name, value in (resources or {}).items() if "/" in name})


def pod_from(item: Object) -> Pod | None:
    """Read a pod; None where it asks for no accelerators, or only keeps them free."""
    asks = {} if is_placeholder(item) else accelerators_in(requests_of(item["spec"]))
    return pod_with(item, asks) if asks else None


def is_placeholder(item: Object) -> bool:
    """Whether a pod only keeps its node free for others."""
    return PLACEHOLDER in part(item["metadata"], "labels")


def pod_with(item: Object, asks: Mapping[str, int]) -> Pod:
    """Read a pod that is known to ask for these."""
    meta, spec, status = item["metadata"], item["spec"], part(item, "status")
    created = datetime.fromisoformat(meta["creationTimestamp"])
    ended, guessed = _end(meta, status, created)
    return Pod(
        uid=meta.get("uid", ""),
        tenant=sys.intern(meta.get("namespace", "")),
        name=meta["name"],
        node=sys.intern(spec.get("nodeName") or ""),
        asks=asks,
        phase=sys.intern(status.get("phase", "Pending")),
        created=created,
        started=_moment(status.get("startTime")),
        ended=ended,
        refused=_refused(status),
        guessed=guessed,
        kind=sys.intern(part(meta, "labels").get(WORKLOAD_CLASS, "")),
    )


def _refused(status: Object) -> bool:
    """Whether the kubelet rejected the pod: it never ran, and its controller made another in its place."""
    if status.get("phase") != "Failed" or status.get("containerStatuses"):
        return False
    reason = status.get("reason") or ""
    return (
        reason in _REFUSALS
        or reason.startswith("OutOf")
        or (status.get("message") or "").startswith("Pod was rejected")
    )


def _end(meta: Object, status: Object, created: datetime) -> tuple[datetime | None, bool]:
    """Return since when a pod is over, and whether that is a guess; None while it waits or runs."""
    deleted = _moment(meta.get("deletionTimestamp"))
    if status.get("phase") not in _OVER:
        return deleted, False  # a pod whose deletion is due is gone, even where a lost node cannot confirm it
    marks: list[Object] = listed(status, "conditions")
    taken = [mark for mark in marks if mark.get("type") == "DisruptionTarget" and mark.get("status") == "True"]
    known = _finished(status) or _last(taken) or deleted
    if known is not None:
        return max(known, created), False
    unready = [mark for mark in marks if mark.get("type") == "Ready" and mark.get("status") != "True"]
    return max(_last(unready) or created, _moment(status.get("startTime")) or created, created), True


def _finished(status: Object) -> datetime | None:
    """Return when the last container of a pod ended."""
    containers: list[Object] = [*listed(status, "initContainerStatuses"), *listed(status, "containerStatuses")]
    states: list[Object] = [part(container, "state", "terminated") for container in containers]
    return max((moment for state in states if (moment := _moment(state.get("finishedAt")))), default=None)


def _last(marks: list[Object]) -> datetime | None:
    return max((moment for mark in marks if (moment := _moment(mark.get("lastTransitionTime")))), default=None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# ---------------------------------------------------------------- the nodes that a pod may go to


def is_choosy(spec: Object) -> bool:
    """Whether a pod names the nodes that it may go to."""
    return bool(spec.get("nodeSelector")) or bool(_terms(spec))


def may_go_to(spec: Object, labels: Mapping[str, str], name: str = "") -> bool:
    """Whether a pod's node selector and required node affinity allow a node with these labels."""
    wanted: dict[str, str] = part(spec, "nodeSelector")
    terms = _terms(spec)
    return all(labels.get(label) == value for label, value in wanted.items()) and (
        not terms or any(_matches(term, labels, name) for term in terms)
    )


def labels_wanted(spec: Object) -> list[dict[str, str]]:
    """Return the labels that a pod's nodes must have, one dictionary for each alternative that its affinity lists."""
    wanted: dict[str, str] = part(spec, "nodeSelector")
    alternatives = [
        {rule["key"]: value}
        for term in _terms(spec)
        for rule in listed(term, "matchExpressions")
        if rule.get("operator") == "In"
        for value in listed(rule, "values")
    ]
    return [{**choice, **wanted} for choice in alternatives] or [wanted]


def _terms(spec: Object) -> list[Object]:
    affinity: Object = part(spec, "affinity", "nodeAffinity")
    required: Object = part(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    return listed(required, "nodeSelectorTerms")


def _matches(term: Object, labels: Mapping[str, str], name: str) -> bool:
    fields = {"metadata.name": name}
    rules = [(rule, labels) for rule in listed(term, "matchExpressions")]
    rules += [(rule, fields) for rule in listed(term, "matchFields")]
    return bool(rules) and all(_holds(rule, values) for rule, values in rules)


def _holds(rule: Object, values: Mapping[str, str]) -> bool:
    """Whether one rule of a node affinity holds."""
    value, allowed = values.get(rule["key"]), listed(rule, "values")
    match rule["operator"]:
        case "In":
            return value in allowed
        case "NotIn":
            return value not in allowed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as order:
            if value is None or not value.isdecimal() or not allowed or not allowed[0].isdecimal():
                return False
            return int(value) > int(allowed[0]) if order == "Gt" else int(value) < int(allowed[0])
        case _:
            return False
