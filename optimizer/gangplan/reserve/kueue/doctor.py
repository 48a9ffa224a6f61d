"""Finds what on a cluster would keep reservations from working, and says what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from gangplan.errors import ForbiddenError, GangplanError, NotFoundError
from gangplan.kube import Api, Object, may, rights
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.ledger import Place
from gangplan.reserve.kueue.objects import View, read_view

GOOD, NOTE, BAD = "good", "note", "bad"
_OLDEST = (1, 30)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: its level, how it is in words, and what helps."""

    level: str
    what: str
    said: str
    remedy: str = ""


def examine(api: Api, place: Place) -> list[Finding]:
    """Look at the cluster, Kueue, our rights, the queue, and the settings that clash; later looks need earlier ones."""
    findings = list(_versions(api))
    if any(finding.level == BAD for finding in findings):
        return findings
    findings += _rights(api, place.namespace)
    remedy = _rights_remedy(place.namespace)
    findings += _guarded("queue", lambda: _queue(api, place), remedy)
    findings += _guarded("Kueue's settings", lambda: _settings(api), remedy)
    return findings


def _rights_remedy(namespace: str) -> str:
    return f"gangplan kube manifests --namespace {namespace} | kubectl apply -f -"


def _guarded(what: str, look: Callable[[], Iterator[Finding]], remedy: str) -> list[Finding]:
    """Turn a look that our rights or the cluster refuse into a finding."""
    try:
        return list(look())
    except ForbiddenError as error:
        return [Finding(level=NOTE, what=what, said=f"could not be looked at: {error}", remedy=remedy)]
    except GangplanError as error:
        return [Finding(level=BAD, what=what, said=str(error), remedy="see the words before")]


def _versions(api: Api) -> Iterator[Finding]:
    """The API server, Kueue's objects and JobSet's."""
    version = api.get("/version")
    number = (int(version["major"]), int("".join(filter(str.isdigit, version["minor"]))))
    good = number >= _OLDEST
    yield Finding(
        level=GOOD if good else BAD,
        what="Kubernetes",
        said=version["gitVersion"],
        remedy="" if good else f"Kueue wants {_OLDEST[0]}.{_OLDEST[1]} or newer: upgrade it",
    )
    yield _group(api, objects.GROUP, "v1beta2", BAD, "install Kueue 0.16 or newer")
    yield _group(api, "jobset.x-k8s.io", "v1alpha2", NOTE, "install JobSet to reserve for JobSets")


def _group(api: Api, group: str, version: str, level: str, remedy: str) -> Finding:
    try:
        served = [version["version"] for version in api.get(f"/apis/{group}")["versions"]]
    except NotFoundError:
        return Finding(level=level, what=group, said="is not there", remedy=remedy)
    good = version in served
    said = f"serves {', '.join(served)}"
    return Finding(level=GOOD if good else level, what=group, said=said, remedy="" if good else remedy)


def _rights(api: Api, namespace: str) -> Iterator[Finding]:
    """Each right that the manifests give, as the API server says that we have it."""
    lacking = [right for right in rights(namespace) if not _may(api, *right)]
    if not lacking:
        yield Finding(level=GOOD, what="rights", said=f"all {len(rights(namespace))} are there")
    for space, group, resource, verb in lacking:
        yield Finding(
            level=NOTE if space == "kueue-system" or group in ("jobset.x-k8s.io", "resource.k8s.io") else BAD,
            what=f"right to {verb} {resource}{'.' if group else ''}{group}",
            said=f"is missing in {f'namespace {space}' if space else 'the cluster'}",
            remedy=_rights_remedy(namespace),
        )


def _may(api: Api, namespace: str, group: str, resource: str, verb: str) -> bool:
    name = "kueue-manager-config" if namespace == "kueue-system" else ""
    return may(api, namespace, group, resource, verb, name)


def _queue(api: Api, place: Place) -> Iterator[Finding]:
    """The LocalQueue, what it may use, and the rules that touch reservations (hazards 1, 10 and 11)."""
    view = read_view(api, place.namespace, place.queue, place.resource)
    shown = f"{place.namespace}/{place.queue}"
    if not view.mine.quotas:
        remedy = f"give it a flavor with a quota of {place.resource}, or name another with ?resource="
        yield Finding(level=BAD, what=shown, said=f"its ClusterQueue has no {place.resource}", remedy=remedy)
    else:
        each = ", ".join(f"{view.most(name)} of {name}" for name in view.mine.quotas)
        yield Finding(level=GOOD, what=shown, said=f"may use up to {each}")
    if view.mine.stopped:
        yield Finding(level=BAD, what=view.mine.name, said="is stopped", remedy="set its stopPolicy to None")
    if view.may_lose:
        remedy = "submit requests as preemptible, or switch preemption off"
        yield Finding(level=NOTE, what="hazard 1", said=view.may_lose, remedy=remedy)
    yield from _multikueue(api, view)
    yield from _default_queue(api, place.namespace)


def _multikueue(api: Api, view: View) -> Iterator[Finding]:
    """MultiKueue rejects Workloads without an owner."""
    spec = api.get(f"{objects.API}/clusterqueues/{view.mine.name}")["spec"]
    strategy: Object = spec.get("admissionChecksStrategy") or {}
    for check in strategy.get("admissionChecks", ()):
        details = api.get(f"{objects.API}/admissionchecks/{check['name']}")
        if details["spec"]["controllerName"] == "kueue.x-k8s.io/multikueue":
            said = f"ClusterQueue {view.mine.name} has the admission check {check['name']}"
            remedy = "MultiKueue rejects reservations: use a queue without it"
            yield Finding(level=BAD, what="hazard 10", said=said, remedy=remedy)


def _default_queue(api: Api, namespace: str) -> Iterator[Finding]:
    """A LocalQueue named default takes in every Job of its namespace."""
    queues = [queue["metadata"]["name"] for queue in api.items(f"{objects.API}/namespaces/{namespace}/localqueues")]
    if "default" in queues:
        said = f"namespace {namespace} has a LocalQueue named default, which counts pods beside a reservation again"
        yield Finding(level=NOTE, what="hazard 11", said=said, remedy="start steps by adoption only, or rename it")


def _settings(api: Api) -> Iterator[Finding]:
    """Kueue's own configuration (hazards 2 and 11, and how long what ended is kept)."""
    config_map = api.get("/api/v1/namespaces/kueue-system/configmaps/kueue-manager-config")
    config: Object = yaml.safe_load(config_map["data"]["controller_manager_config.yaml"])
    waits: Object = config.get("waitForPodsReady") or {}
    if waits.get("blockAdmission"):
        said = "waitForPodsReady blocks all admissions until a reservation's pods are ready, which takes seconds"
        yield Finding(level=NOTE, what="hazard 2", said=said, remedy="set blockAdmission to false")
    elif waits:
        yield Finding(level=GOOD, what="hazard 2", said="waitForPodsReady is on: reservations say that they are ready")
    if config.get("manageJobsWithoutQueueName"):
        said = "manageJobsWithoutQueueName is on: pods beside a reservation are counted again"
        yield Finding(level=NOTE, what="hazard 11", said=said, remedy="start steps by adoption only")
    policies: Object = config.get("objectRetentionPolicies") or {}
    kept: Object = policies.get("workloads") or {}
    if kept.get("afterFinished"):
        said = f"Kueue deletes what ended after {kept['afterFinished']}: history goes back no further"
        yield Finding(level=NOTE, what="retention", said=said)
    yield Finding(level=GOOD, what="Kueue's settings", said="were read")
