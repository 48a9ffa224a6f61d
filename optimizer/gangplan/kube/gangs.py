"""The gangs that a cluster knows: Kueue's Workloads, and the pods that none of them counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from gangplan.clock import from_us, or_none_at
from gangplan.errors import ForbiddenError, NotFoundError
from gangplan.kube.api import Api, Object, listed, part
from gangplan.kube.devices import Device, Devices, read_devices, read_slices
from gangplan.kube.inventory import NODES, Node, node_from
from gangplan.kube.places import Place, Places
from gangplan.kube.pods import PODS, WORKLOAD_CLASS, accelerators_in, is_placeholder, pod_with, requests_of
from gangplan.kube.remarks import Malformed, Remarks
from gangplan.kube.workloads import KUEUE, Claim, claim_from

_GROUP = "kueue.x-k8s.io/"
_OLDER = f"/apis/{_GROUP}v1beta1"
_WISHES = {f"{_GROUP}queue-name", f"{_GROUP}priority-class"}
"""Labels that people write. Kueue writes others on the pods that it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Pods that asked for accelerators together: whose, how many of which, when they came, started and ended.

    `accelerator` is empty where it is unknown; `kind` is the workload class of its label, or empty.
    """

    id: str
    tenant: str
    accelerator: str
    count: float
    kind: str
    created: datetime
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The gangs of a cluster, sentences on what was left out or assumed, and the objects that cannot be read."""

    gangs: list[Gang]
    notes: tuple[str, ...]
    malformed: tuple[Malformed, ...]


def read_gangs(api: Api) -> Seen:
    """Return all gangs that the cluster still knows; without Kueue, each pod is a gang."""
    census = _Census(api)
    gangs = [*census.workloads(), *census.pods()]
    return Seen(gangs=gangs, notes=census.remarks.sentences(), malformed=tuple(census.remarks.malformed))


class _Census:
    """One reading of a cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.remarks = Remarks()
        self._slices = read_slices(api, self.remarks)
        nodes = list(self.remarks.each(NODES, api.items(NODES), lambda item: _nodes(item, self._slices.nodes)))
        self._places = Places(nodes)
        nameless = sum(not node.accelerator for node in nodes)
        if nameless:
            said = f"{nameless} of {len(nodes)} nodes have no GPU model: demand on them is counted as `any`"
            self.remarks.say(f"{said} (install GPU feature discovery, or set the label gangplan.io/accelerator)")
        self._owners: set[str] = set()
        self._spaces: set[str] = set()

    @cached_property
    def _devices(self) -> Devices:
        return read_devices(self._api, self.remarks, self._slices)

    # ---------------------------------------------------------------- Workloads

    def workloads(self) -> Iterator[Gang]:
        """Yield the gangs of Kueue's Workloads."""
        base = self._kueue()
        if not base:
            return
        try:
            flavors = dict(self.remarks.each(base, self._api.items(f"{base}/resourceflavors"), _flavor))
        except ForbiddenError:
            flavors = dict[str, dict[str, str]]()
        path = f"{base}/workloads"
        yield from self.remarks.each(path, self._api.items(path), lambda item: list(self._of_workload(item, flavors)))

    def _kueue(self) -> str:
        """Return the path of the newest version of Kueue's API that is served and read; empty without one."""
        for base in (KUEUE, _OLDER):
            try:
                self._api.get(f"{base}/workloads", limit="1")
            except NotFoundError:
                continue
            except ForbiddenError:
                self.remarks.say("Kueue's Workloads may not be read: its pods are counted one by one")
                return ""
            if base == _OLDER:
                self.remarks.say("Kueue serves only v1beta1: its Workloads are read (a ledger on Kueue needs v1beta2)")
            return base
        self._name_kueue()
        return ""

    def _name_kueue(self) -> None:
        """Say which other versions of Kueue's API there are."""
        try:
            served = self._api.get(f"/apis/{_GROUP[:-1]}").get("versions") or ()
        except (NotFoundError, ForbiddenError):
            return
        versions = ", ".join(str(each.get("version")) for each in served)
        self.remarks.say(f"Kueue serves only {versions}, which is not read: its pods are counted one by one")

    def _of_workload(self, item: Object, flavors: Mapping[str, Mapping[str, str]]) -> Iterator[Gang]:
        """Yield the gangs of a Workload, one for each accelerator; none where it asks for no accelerators."""
        counts: dict[str, float] = {}
        admission: Object = part(item, "status", "admission")
        given = {share["name"]: share for share in listed(admission, "podSetAssignments")}
        for pods in item["spec"]["podSets"]:
            share: Object = given.get(pods.get("name", "main")) or {}
            for accelerator, each in self._of_pod_set(item, pods, part(share, "flavors"), flavors):
                counts[accelerator] = counts.get(accelerator, 0.0) + each * share.get("count", pods["count"])
        if not counts:
            return
        claim = claim_from(item)
        self._owners |= {owner["uid"] for owner in listed(item["metadata"], "ownerReferences") if "uid" in owner}
        self._spaces.add(claim.namespace)
        for number, (accelerator, count) in enumerate(sorted(counts.items(), key=lambda each: (-each[1], each[0]))):
            yield Gang(
                id=f"{claim.uid}/{accelerator}" if number else claim.uid,
                tenant=claim.namespace,
                accelerator=accelerator,
                count=count,
                kind=_labels(item).get(WORKLOAD_CLASS, ""),
                created=from_us(claim.created),
                started=or_none_at(claim.since("Admitted")),
                ended=_end(claim),
            )

    def _of_pod_set(
        self, item: Object, pods: Object, given: Mapping[str, str], flavors: Mapping[str, Mapping[str, str]]
    ) -> Iterator[tuple[str, float]]:
        """Yield the accelerators that one pod of a pod set asks for, and how many."""
        spec = pods["template"]["spec"]
        asked = requests_of(spec)
        self.remarks.asks(asked)
        for resource, count in accelerators_in(asked).items():
            flavor = given.get(resource) or next((name for key, name in given.items() if "/" in key), "")
            placed = self._places.of_flavor(flavor, flavors.get(flavor, {}), resource) if flavor else None
            place = self._say(placed or self._places.of_pod(spec, resource), pods["count"])
            yield place.accelerator, count * place.share
        for _, accelerator, count in self._claimed(item["metadata"].get("namespace", ""), spec, {}):
            yield accelerator, count

    # ---------------------------------------------------------------- pods

    def pods(self) -> Iterator[Gang]:
        """Yield the gangs of the pods that no Workload counts; `workloads` must have been read."""
        yield from self.remarks.each(PODS, self._api.items(PODS), lambda item: list(self._of_pod(item)))

    def _of_pod(self, item: Object) -> Iterator[Gang]:
        """Yield the gangs of a pod, one for each resource; none where it asks for no accelerators."""
        if is_placeholder(item):
            return
        spec, namespace = item["spec"], item["metadata"].get("namespace", "")
        asked = requests_of(spec)
        asks = accelerators_in(asked)
        if not asks and not spec.get("resourceClaims"):
            self.remarks.asks(asked)
            return
        pod = pod_with(item, asks)
        if self._is_counted(item):
            return
        self.remarks.asks(asked)
        if pod.refused:
            self.remarks.pod("refused")
            return
        claimed = list(self._claimed(namespace, spec, part(item, "status")))
        if pod.guessed and (asks or claimed):
            self.remarks.pod("guessed")
        gang = Gang(
            id=pod.uid,
            tenant=pod.tenant,
            accelerator="",
            count=0.0,
            kind=_labels(item).get(WORKLOAD_CLASS, ""),
            created=pod.created,
            started=pod.started,
            ended=pod.ended,
        )
        placed = [(name, self._say(self._places.of_pod(spec, name)), count) for name, count in sorted(asks.items())]
        found = [(name, place.accelerator, count * place.share) for name, place, count in placed] + claimed
        for number, (name, accelerator, count) in enumerate(found):
            yield replace(gang, id=f"{pod.uid}/{name}" if number else pod.uid, accelerator=accelerator, count=count)

    def _is_counted(self, item: Object) -> bool:
        """Whether a Workload counts this pod: Kueue has marked it, or the Workload belongs to the pod's own owner."""
        meta = item["metadata"]
        owners = {owner.get("uid") for owner in listed(meta, "ownerReferences")} | {meta.get("uid")}
        if owners & self._owners:
            return True
        marked = {*_labels(item), *part(meta, "annotations")}
        if not any(name.startswith(_GROUP) and name not in _WISHES for name in marked):
            return False
        counted = meta.get("namespace", "") in self._spaces
        if not counted:
            self.remarks.pod("unclaimed")
        return counted

    def _claimed(self, namespace: str, spec: Object, status: Object) -> Iterator[tuple[str, str, float]]:
        """Yield the accelerators that a pod asks for by ResourceClaims: a name, the accelerator, how many."""
        if not spec.get("resourceClaims"):
            return
        devices = self._devices.asked(namespace, spec, status)
        if devices is None:
            self.remarks.pod("claims", because=self._devices.note or "the claim and its template are gone")
            return
        node = self._places.nodes.get(spec.get("nodeName") or "")
        for device, count in devices.items():
            accelerator = device.accelerator or (node.called(device.driver) if node else "")
            yield f"{device.driver} {accelerator} {device.share:.3f}", accelerator, count * device.share

    def _say(self, place: Place, pods: int = 1) -> Place:
        """Count what is assumed of a place."""
        if place.several:
            self.remarks.pod("several", pods)
        if place.shared:
            self.remarks.pod("shared", pods)
        return place


def _nodes(item: Object, slices: Mapping[str, list[Device]]) -> list[Node]:
    node = node_from(item, slices)
    return [] if node is None else [node]


def _flavor(item: Object) -> list[tuple[str, dict[str, str]]]:
    return [(item["metadata"]["name"], part(item, "spec", "nodeLabels"))]


def _labels(item: Object) -> dict[str, str]:
    return part(item["metadata"], "labels")


def _end(claim: Claim) -> datetime | None:
    """Return when a Workload ended: it finished, or was switched off, which frees its quota."""
    if claim.finished or claim.active:
        return or_none_at(claim.since("Finished"))
    return from_us(claim.since("Evicted") or max((mark.since for mark in claim.marks.values()), default=claim.created))
