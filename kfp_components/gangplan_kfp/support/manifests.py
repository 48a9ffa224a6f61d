"""A Job, JobSet or TrainJob that is to run on a gang's slots: read, checked against them, and put onto them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import yaml

from gangplan.client import HOST, RESERVATION, PodPlace, joined_affinity, pod_place
from gangplan.errors import InputError
from gangplan.kube import Object, accelerators_in, requests_of
from gangplan.reserve import KueueLedger, Ledger
from gangplan.types import Reservation

OWN_DEADLINE = "gangplan.io/own-deadline"
"""The annotation of a Job that keeps the time limit its author gave: the one in its spec follows the lease."""

MASTER_PORT = "29500"
KEPT_S = 3600
"""How long a Job that has ended is kept, where its author does not say."""

_KUEUE = "kueue.x-k8s.io/"
"""Begins the labels by which a Job asks a queue itself: its pods would be counted twice."""

_RANK = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a kind of Job is created, known to have ended well, and found by its pods: their label with its name."""

    version: str
    plural: str
    complete: str
    pods: str

    def path(self, namespace: str) -> str:
        """Return where objects of this kind are."""
        return f"/apis/{self.version}/namespaces/{namespace}/{self.plural}"


JOB = Kind(version="batch/v1", plural="jobs", complete="Complete", pods="batch.kubernetes.io/job-name")
OF_JOBSET = "jobset.sigs.k8s.io/jobset-name"
KINDS = {
    "Job": JOB,
    "JobSet": Kind(version="jobset.x-k8s.io/v1alpha2", plural="jobsets", complete="Completed", pods=OF_JOBSET),
    "TrainJob": Kind(version="trainer.kubeflow.org/v1alpha1", plural="trainjobs", complete="Complete", pods=OF_JOBSET),
}


def read_job(job: Mapping[str, Any], job_yaml: str) -> Object:
    """Read a manifest from one of a component's two parameters, or refuse what is no Job, JobSet or TrainJob."""
    names = " or ".join(KINDS)
    if not job and not job_yaml:
        raise InputError("job", "", f"is missing: give a {names}, or its YAML as job_yaml")
    if job and job_yaml:
        raise InputError("job", "both job and job_yaml", "are given: give one of them")
    field = "job" if job else "job_yaml"
    body = _whole(dict(job)) if job else _parsed(job_yaml)
    kind = KINDS.get(body.get("kind", ""))
    if kind is None:
        raise InputError(f"{field}.kind", body.get("kind", ""), f"cannot run on a gang: use {', '.join(KINDS)}")
    if body.get("apiVersion") != kind.version:
        raise InputError(f"{field}.apiVersion", body.get("apiVersion", ""), f"is another version: use {kind.version}")
    meta = _part(field, body, "metadata")
    if not meta.get("name") and not meta.get("generateName"):
        raise InputError.missing(f"{field}.metadata.name")
    if body["kind"] != "TrainJob":
        for path, spec in _jobs_in(field, body):
            _part(path, spec, "template", "spec")
            if not spec["template"]["spec"].get("containers"):
                raise InputError.missing(f"{path}.template.spec.containers")
    return body


def _parsed(text: str) -> Object:
    """Read YAML text that has one object."""
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError("job_yaml", text[:60], f"is no YAML of one object: {error}") from None
    if not isinstance(body, dict):
        raise InputError("job_yaml", text[:60], "is no manifest: give one Job, JobSet or TrainJob")
    return dict(body)


def _whole(value: Any) -> Any:
    """Return a parameter's value with the whole numbers that KFP hands on as floats."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _part(field: str, body: Object, *names: str) -> Object:
    """Return a part that must be there."""
    for name in names:
        field, found = f"{field}.{name}", body.get(name)
        if not isinstance(found, dict):
            raise InputError.missing(field)
        body = found
    return body


def _jobs_in(field: str, body: Object) -> Iterator[tuple[str, Object]]:
    """Yield the Job specs of a Job or JobSet, by their paths."""
    spec = _part(field, body, "spec")
    if body["kind"] == "Job":
        yield f"{field}.spec", spec
        return
    listed = spec.get("replicatedJobs") or []
    if not listed:
        raise InputError.missing(f"{field}.spec.replicatedJobs")
    for index, one in enumerate(listed):
        path = f"{field}.spec.replicatedJobs[{index}]"
        yield f"{path}.template.spec", _part(path, one, "template", "spec")


# -------------------------------------------------------------------- onto the slots


def placed(job: Object, ledger: Ledger, reservation: Reservation, node_label: str = "") -> Object:
    """Return a Job whose pods go to a reservation's slots; one that needs more of them than there are is refused.

    It asks no queue of Kueue itself, which would count its pods a second time, and starts at once. Without a label that
    has the ledger's names of nodes, only Kueue's nodes are known.
    """
    body = deepcopy(job)
    meta: Object = body["metadata"]
    meta["name"] = meta.get("name") or f"{meta.pop('generateName')}{reservation.id[:10]}"
    meta["labels"] = _without_queue(meta.get("labels")) | {RESERVATION: str(reservation.id)}
    body["spec"].pop("suspend", None)
    room = _Room(ledger, reservation, node_label)
    if body["kind"] == "TrainJob":
        _place_train_job(body, room)
    else:
        _place_jobs(body, room)
    return body


class _Room:
    """The slots of a reservation that no pods have been given yet."""

    def __init__(self, ledger: Ledger, reservation: Reservation, node_label: str) -> None:
        self._ledger, self._reservation, self._node_label = ledger, reservation, node_label
        self._left = [pods.count for pods in reservation.request.pod_sets]

    @property
    def most(self) -> int:
        """How many pods the first pod set has."""
        return self._reservation.request.pod_sets[0].count

    def _place(self, index: int) -> PodPlace:
        label = self._node_label or HOST
        place = pod_place(self._ledger, self._reservation, pod_set=index, node_label=label)
        known = self._node_label or isinstance(self._ledger, KueueLedger)
        return place if known else replace(place, node_affinity={}, spread=())

    def take(self, field: str, pods: int, asks: Mapping[str, int]) -> PodPlace:
        """Return where pods go that ask for accelerators, or for none but are to have a slot's; they must fit."""
        sets = self._reservation.request.pod_sets
        for index, left in enumerate(self._left):
            place = self._place(index)
            has = {name: int(count) for name, count in place.resources.items()}
            if pods <= left and all(count <= has.get(name, 0) for name, count in asks.items()):
                self._left[index] -= pods
                return place
        asked = ", ".join(f"{count} {name}" for name, count in asks.items()) or "a slot"
        held = " + ".join(f"{one.count} x {one.gpus_per_pod}" for one in sets)
        raise InputError(field, f"{pods} pods of {asked}", f"do not fit into the gang's {held}: reserve as many")


def _place_jobs(body: Object, room: _Room) -> None:
    """Put the pods of a Job or JobSet onto slots: those that ask for accelerators, or, where none do, all."""
    specs = list(_jobs_in("job", body))
    bare = not any(_asks(spec) for _, spec in specs)
    if bare and len(specs) > 1:
        raise InputError("job", body["kind"], "asks for no accelerators: give the pods that use the slots their limits")
    listed: list[Object] = body["spec"].get("replicatedJobs") or [{}]
    for (path, spec), one in zip(specs, listed, strict=True):
        asks = _asks(spec)
        if asks or bare:
            place = room.take(path, one.get("replicas", 1) * _at_once(spec), asks)
            _number(spec)
            put_on(spec["template"], place)
            _tell(spec, {**place.environment, **_meeting(body, one.get("name", ""), spec)})


def _asks(spec: Object) -> dict[str, int]:
    """Return the accelerators that each pod of a Job asks for."""
    return accelerators_in(requests_of(spec["template"]["spec"]))


def _at_once(spec: Object) -> int:
    """Return how many pods of a Job run at once."""
    parallel, completions = spec.get("parallelism", 1), spec.get("completions")
    return int(parallel if completions is None else min(parallel, completions))


def _number(spec: Object) -> None:
    """Let the pods of a Job have ranks, where its author does not say otherwise."""
    if spec.get("completions") is not None:
        spec.setdefault("completionMode", "Indexed")


def put_on(template: Object, place: PodPlace) -> None:
    """Put a pod template onto slots; what it asks for itself is kept."""
    meta: Object = template.setdefault("metadata", {})
    meta["labels"] = _without_queue(meta.get("labels")) | place.labels
    own: dict[str, str] = meta.get("annotations") or {}
    wishes = any(name.startswith(_KUEUE) and name.endswith("-topology") for name in own)
    meta["annotations"] = own if wishes else own | place.annotations
    spec: Object = template["spec"]
    spec |= _where(spec, place)
    if place.spread:
        spec["topologySpreadConstraints"] = [*(spec.get("topologySpreadConstraints") or []), *place.spread]
    if not accelerators_in(requests_of(spec)):
        resources: Object = spec["containers"][0].setdefault("resources", {})
        resources["limits"] = (resources.get("limits") or {}) | place.resources


def _where(own: Object, place: PodPlace) -> Object:
    """Return the node selector, the tolerations and the affinity of pods that go to slots."""
    affinity: Object = own.get("affinity") or {}
    nodes = joined_affinity(affinity.get("nodeAffinity") or {}, place.node_affinity)
    tolerations: list[Object] = own.get("tolerations") or []
    added = [one for one in place.tolerations if one not in tolerations]
    return {
        "nodeSelector": (own.get("nodeSelector") or {}) | place.node_selector,
        "tolerations": [*tolerations, *added],
        **({"affinity": {**affinity, "nodeAffinity": nodes}} if nodes else {}),
    }


def _meeting(body: Object, part: str, spec: Object) -> dict[str, str]:
    """Return by what the pods of a Job find each other; the first one's address only where it has a name."""
    first = {"MASTER_PORT": MASTER_PORT, "NNODES": str(_at_once(spec))}
    name: str = body["metadata"]["name"]
    if body["kind"] == "JobSet":
        domain = (body["spec"].get("network") or {}).get("subdomain") or name
        return first | {"MASTER_ADDR": f"{name}-{part}-0-0.{domain}"}
    if domain := spec["template"]["spec"].get("subdomain"):
        return first | {"MASTER_ADDR": f"{name}-0.{domain}"}
    return first


def _tell(spec: Object, environment: Mapping[str, str]) -> None:
    """Give a Job's containers variables before their own, which win; and their rank, where they have one."""
    told: list[Object] = [{"name": name, "value": value} for name, value in environment.items()]
    if spec.get("completionMode") == "Indexed":
        field = {"fieldPath": f"metadata.annotations['{_RANK}']"}
        told.append({"name": "NODE_RANK", "valueFrom": {"fieldRef": field}})
    for container in spec["template"]["spec"]["containers"]:
        container["env"] = _with_own(told, container.get("env"))


def _with_own(told: list[Object], own: list[Object] | None) -> list[Object]:
    names = {one["name"] for one in own or []}
    return [*(one for one in told if one["name"] not in names), *(own or [])]


def _without_queue(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in (labels or {}).items() if not name.startswith(_KUEUE)}


def _place_train_job(body: Object, room: _Room) -> None:
    """Put the nodes of a TrainJob onto slots, by an override of its runtime's pods; the Trainer does the rest."""
    trainer: Object = body["spec"].setdefault("trainer", {})
    nodes = trainer.setdefault("numNodes", room.most)
    resources: Object = trainer.get("resourcesPerNode") or {}
    place = room.take(
        "job.spec.trainer", nodes, accelerators_in(requests_of({"containers": [{"resources": resources}]}))
    )
    trainer["resourcesPerNode"] = {**resources, "limits": (resources.get("limits") or {}) | place.resources}
    told: list[Object] = [{"name": name, "value": value} for name, value in place.environment.items()]
    trainer["env"] = _with_own(told, trainer.get("env"))
    body["spec"]["podTemplateOverrides"] = [
        *(body["spec"].get("podTemplateOverrides") or []),
        {
            "targetJobs": [{"name": "node"}],
            "metadata": {"labels": dict(place.labels), "annotations": dict(place.annotations)},
            "spec": _where({}, place),
        },
    ]


def limited(body: Object, seconds: int) -> Object:
    """Return a Job or JobSet whose Jobs end so many seconds after they began, unless they are given more.

    A TrainJob has no place for it: its Jobs are limited when they are there.
    """
    if body["kind"] == "TrainJob":
        return body
    limited = deepcopy(body)
    limited["spec"].setdefault("ttlSecondsAfterFinished", KEPT_S)
    holders: list[Object] = (
        [limited] if limited["kind"] == "Job" else [one["template"] for one in limited["spec"]["replicatedJobs"]]
    )
    for holder in holders:
        own = holder["spec"].get("activeDeadlineSeconds")
        if own is not None:
            meta: Object = holder.setdefault("metadata", {})
            meta["annotations"] = (meta.get("annotations") or {}) | {OWN_DEADLINE: str(own)}
        holder["spec"]["activeDeadlineSeconds"] = seconds if own is None else min(own, seconds)
    return limited
