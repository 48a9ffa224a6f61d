"""How a Job, JobSet or group of pods takes over a reservation: the exact pod sets to reserve, the labels to start with.

Kueue compares the pods of the Job that adopts a Workload with those that were reserved, container by container, and
gives the reservation up where they differ. So the pod sets come from the Job itself, as the API server would complete
it (a dry run of its creation), and the time limit stands in both.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta

from gangplan.errors import ConflictError, InputError, StaleTokenError
from gangplan.kube import Api, Claim, Object, gpus_of
from gangplan.reserve.codec import id_of, request_from_text
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.jobs.pod_group import dry_run, marked, path, pod_sets_of_group, pods_of
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.reserve.kueue.objects import Flavor, limit_seconds, node_affinity, refuse, topology_request
from gangplan.types import GangRequest, PodSet, Reservation, ReservationId

_PATHS = {"Job": "/apis/batch/v1", "JobSet": "/apis/jobset.x-k8s.io/v1alpha2"}


@dataclass(frozen=True, kw_only=True)
class Handout:
    """What a step needs of a reservation that holds slots.

    `labels` belong on the Job that adopts it, `annotations` on its pods: without them Kueue holds back pods whose nodes
    it has chosen. Pods that only run beside it take `node_selector`, `tolerations` and `annotations`, without which
    Kueue would count their nodes' slots twice, and must carry no queue's name; `pod_sets` are the reserved pods, by
    their names, with their exact templates.
    """

    workload: str
    labels: dict[str, str]
    annotations: dict[str, str]
    node_selector: dict[str, str]
    tolerations: tuple[Object, ...]
    pod_sets: dict[str, Object]


def pod_sets_of(api: Api, namespace: str, manifest: Object) -> list[Object]:
    """Return the pod sets that Kueue will find in a Job, JobSet or group of pods once it is created."""
    if pods := pods_of(manifest):
        return pod_sets_of_group(api, namespace, pods)
    whole = _tried(api, namespace, manifest)
    if whole["kind"] == "Job":
        return [_pod_set("main", whole["spec"])]
    jobs: list[Object] = whole["spec"]["replicatedJobs"]
    return [_pod_set(job["name"].lower(), job["template"]["spec"], job.get("replicas", 1)) for job in jobs]


def _pod_set(name: str, spec: Object, replicas: int = 1) -> Object:
    """Return the pods of a Job's spec, of which there are so many replicas."""
    parallel, completions = spec.get("parallelism", 1), spec.get("completions")
    each = parallel if completions is None else min(parallel, completions)
    return {"name": name, "count": replicas * each, "template": _template(spec["template"])}


def _tried(api: Api, namespace: str, manifest: Object) -> Object:
    """Let the API server complete a manifest without creating anything."""
    whole = dry_run(api, path_of(namespace, manifest), _suspended(manifest))
    return {"kind": manifest["kind"], **whole}


def _suspended(manifest: Object) -> Object:
    """Return a manifest that starts nothing and asks no queue."""
    body = deepcopy(manifest)
    body["spec"]["suspend"] = True
    labels: dict[str, str] = body["metadata"].get("labels", {})
    dropped = (objects.QUEUE_NAME, objects.PREBUILT)
    body["metadata"]["labels"] = {name: value for name, value in labels.items() if name not in dropped}
    return body


def _template(template: Object) -> Object:
    """Return a pod template without the labels that name one Job's own uid."""
    kept: Object = {"spec": template["spec"]}
    labels: dict[str, str] = template.get("metadata", {}).get("labels", {})
    own = {name: value for name, value in labels.items() if not name.endswith(("controller-uid", "job-name"))}
    return {"metadata": {"labels": own}, **kept} if own else kept


def path_of(namespace: str, manifest: Object) -> str:
    """Return where a manifest is created, or refuse a kind that cannot adopt here."""
    kind = manifest.get("kind", "")
    if kind not in _PATHS:
        raise InputError(
            "manifest.kind", kind, f"cannot adopt a reservation here: use {', '.join(_PATHS)}, or a List of Pods"
        )
    return f"{_PATHS[kind]}/namespaces/{namespace}/{kind.lower()}s"


def asked_by(pod_sets: list[Object]) -> tuple[PodSet, ...]:
    """Return the pods with GPUs among pod sets, as a request has them."""
    sizes = ((pod_set["count"], gpus_of(pod_set["template"])) for pod_set in pod_sets)
    asking = tuple(PodSet(count=count, gpus_per_pod=gpus) for count, gpus in sizes if gpus)
    if not asking:
        raise InputError(
            "manifest", "containers", "ask for no GPUs: give them resources.limits, like nvidia.com/gpu: 8"
        )
    return asking


def reserve_for(ledger: KueueLedger, request: GangRequest, manifest: Object, attempt: str = "") -> Reservation:
    """Reserve exactly the pods of a Job, JobSet or List of Pods; what they ask for takes the place of the request's."""
    pod_sets = pod_sets_of(ledger.api, ledger.place.namespace, manifest)
    request = replace(request, pod_sets=asked_by(pod_sets))
    flavors = refuse(request, ledger.view())
    notes = {objects.IS_GROUP: "true"} if pods_of(manifest) else {}
    return ledger.submit_for(request, [_steered(pod_set, request, flavors) for pod_set in pod_sets], notes, attempt)


def asks_alike(ledger: KueueLedger, request: GangRequest, manifest: Object) -> bool:
    """Tell whether a manifest has as many pods with as many GPUs as a request, so that it may be reserved for it."""
    asked = asked_by(pod_sets_of(ledger.api, ledger.place.namespace, manifest))
    return [(pods.count, pods.gpus_per_pod) for pods in asked] == [
        (pods.count, pods.gpus_per_pod) for pods in request.pod_sets
    ]


def may_adopt(ledger: KueueLedger, id: ReservationId, manifest: Object) -> bool:
    """Tell whether a reservation was made for exactly these pods, and nothing has adopted it yet.

    Kueue ends a reservation that other pods adopt. Raises StaleTokenError where the reservation holds no slots now.
    """
    reserved = hand_out(ledger, id).pod_sets
    asked = {pods["name"]: pods["template"] for pods in pod_sets_of(ledger.api, ledger.place.namespace, manifest)}
    return not ledger.claim(id).owner and _containers(reserved) == _containers(asked)


def _containers(templates: dict[str, Object]) -> dict[str, list[list[Object]]]:
    """Return what Kueue compares of pod templates."""
    kinds = ("initContainers", "containers")
    return {name: [template["spec"].get(kind) or [] for kind in kinds] for name, template in templates.items()}


def _steered(pod_set: Object, request: GangRequest, flavors: list[Flavor]) -> Object:
    """Keep a pod set to the flavors and the topology asked for; Kueue does not compare these with the Job."""
    body, asks = deepcopy(pod_set), gpus_of(pod_set["template"])
    if asks and (chosen := node_affinity(flavors)) and "affinity" not in body["template"]["spec"]:
        body["template"]["spec"]["affinity"] = {"nodeAffinity": chosen}
    if asks and (wish := topology_request(request, flavors)):
        body["topologyRequest"] = wish
    return body


def labels_of(request: GangRequest, queue: str, ahead: timedelta) -> dict[str, str]:
    """Return the labels by which a Job adopts the reservation of a request."""
    return {
        objects.QUEUE_NAME: queue,
        objects.PREBUILT: id_of(request.request_key),
        objects.MAX_EXEC: str(limit_seconds(request, ahead)),
    }


def hand_out(ledger: KueueLedger, id: ReservationId) -> Handout:
    """Return what a step needs to run on a reservation; one that may not start now is refused."""
    claim = ledger.claim(id)
    if not claim.safe:
        raise StaleTokenError(f"reservation {id}: holds no slots now, so nothing may start on it: wait for its grant")
    request, place = request_from_text(claim.request), ledger.place
    flavors = [ledger.view().flavors[share.flavor] for share in claim.shares if share.flavor]
    body = ledger.api.get(f"{objects.workloads(place.namespace)}/{id}")
    checks: list[Object] = body["status"].get("admissionChecks", [])
    updates = [update for check in checks for update in check.get("podSetUpdates", ())]
    selector = {key: value for flavor in flavors for key, value in flavor.labels.items()}
    tolerations = [toleration for flavor in flavors for toleration in flavor.tolerations]
    for update in updates:
        selector |= update.get("nodeSelector", {})
        tolerations += update.get("tolerations", [])
    return Handout(
        workload=str(id),
        labels=labels_of(request, place.queue, place.ahead),
        annotations=_topology_notes(claim, body["spec"]["podSets"]),
        node_selector=selector | _domain(claim),
        tolerations=tuple(each for index, each in enumerate(tolerations) if each not in tolerations[:index]),
        pod_sets={pod_set["name"]: pod_set["template"] for pod_set in body["spec"]["podSets"]},
    )


def _topology_notes(claim: Claim, pod_sets: list[Object]) -> dict[str, str]:
    """Return the annotation by which Kueue lets pods go to the nodes that it chose; none where it chose none."""
    if not any(share.nodes for share in claim.shares):
        return {}
    wishes: list[Object] = [pod_set["topologyRequest"] for pod_set in pod_sets if pod_set.get("topologyRequest")]
    wish = wishes[0] if wishes else Object()
    for kind in ("required", "preferred"):
        if kind in wish:
            return {f"{objects.GROUP}/podset-{kind}-topology": wish[kind]}
    return {f"{objects.GROUP}/podset-unconstrained-topology": "true"}


def _templates(body: Object) -> list[Object]:
    """Return the pod templates of a Job or JobSet."""
    spec = body["spec"]
    if body["kind"] == "Job":
        return [spec["template"]]
    return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]


def _domain(claim: Claim) -> dict[str, str]:
    """Return the one node that all pods stand on, where there is only one."""
    nodes = {node for share in claim.shares for node, _ in share.nodes}
    return {objects.HOST: nodes.pop()} if len(nodes) == 1 else {}


def start(ledger: KueueLedger, id: ReservationId, manifest: Object) -> Object:
    """Create the Job, JobSet or pods that adopt a reservation; Kueue lets them run where the reservation says.

    Safe to retry: what it had created before it broke off is found, and the rest is created.

    Raises StaleTokenError where the reservation holds no slots, InputError where the name is another's.
    """
    handout = hand_out(ledger, id)
    if pods := pods_of(manifest):
        return _start_group(ledger, handout, pods)
    body = _suspended(_named(manifest, handout.workload))
    body["metadata"]["labels"] |= handout.labels
    for template in _templates(body):
        annotate(template, handout.annotations)
    where = path_of(ledger.place.namespace, manifest)
    return _create_once(ledger.api, where, body, (objects.PREBUILT, handout.workload))


def annotate(template: Object, notes: dict[str, str]) -> None:
    """Give a pod template annotations, unless it names a topology itself."""
    meta: Object = dict(template.get("metadata") or {})
    own: dict[str, str] = meta.get("annotations") or {}
    if not any(name.startswith(objects.GROUP) and name.endswith("-topology") for name in own):
        template["metadata"] = meta | {"annotations": own | notes}


def _start_group(ledger: KueueLedger, handout: Handout, pods: list[Object]) -> Object:
    """Create the pods of a group; Kueue holds each back until it has seen its Workload."""
    labels = handout.labels | {objects.POD_GROUP: handout.workload}
    notes = handout.annotations | {objects.POD_GROUP_TOTAL: str(len(pods))}
    bodies = [marked(_named(pod, handout.workload, index), labels, notes) for index, pod in enumerate(pods)]
    where, ours = path(ledger.place.namespace), (objects.POD_GROUP, handout.workload)
    return {"kind": "List", "items": [_create_once(ledger.api, where, body, ours) for body in bodies]}


def _create_once(api: Api, where: str, body: Object, mark: tuple[str, str]) -> Object:
    """Create an object, or return the one of that name that carries the same label; another's is refused by name.

    So a retry after half of a start was done finds its own and goes on.
    """
    name, (label, value) = body["metadata"]["name"], mark
    try:
        return api.create(where, body)
    except ConflictError:
        there = api.get(f"{where}/{name}")
    labels: dict[str, str] = there["metadata"].get("labels") or {}
    if labels.get(label) != value:
        raise InputError(
            "manifest.metadata.name", name, f"is another's, not of reservation {value}: delete that one, or rename this"
        )
    return there


def _named(body: Object, reservation: str, index: int = 0) -> Object:
    """Return an object with a name of its own: what the API server makes up would be another one on a retry."""
    meta: Object = dict(body["metadata"])
    if not meta.get("name"):
        meta["name"] = f"{meta.pop('generateName', '')}{reservation[:10]}-{index}"
    return body | {"metadata": meta}
