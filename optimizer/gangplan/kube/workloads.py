"""Kueue's Workloads as small frozen values."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime

from gangplan.clock import SECOND, to_us
from gangplan.kube.accelerators import is_accelerator
from gangplan.kube.api import Object, whole
from gangplan.kube.pods import accelerators_in, requests_of
from gangplan.types import Token

KUEUE = "/apis/kueue.x-k8s.io/v1beta2"

RESERVATION = "gangplan.io/reservation"
"""<microsecond of its submit> <LocalQueue that it is for, though it is not queued before its window> <its request>.

As a label of pods: the id of the reservation whose slots they use.
"""

LEASE = "gangplan.io/lease"
"""<token>:<end in microseconds>: what the last renewal set; for another token it does not count."""

ATTEMPT = "gangplan.io/attempt"
"""<token> <takeovers> <moment in microseconds> <attempt>: who asked last, which grant it took over, as how many."""

END = "gangplan.io/end"
"""How a reservation ended: no Workload of ours that has it is any more than a rest."""

_UID_BITS = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """One condition: whether it holds, since when, why, and in Kueue's words."""

    holds: bool
    since: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one pod set was given: its flavor, pods, GPUs, and where topology is known the pods on each node."""

    pod_set: str
    flavor: str  # of its accelerators; empty where it has none
    pods: int
    gpus: int
    nodes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A Workload: what it asks for, what Kueue has said of it, and what we have written on it."""

    name: str
    namespace: str
    uid: str
    version: str
    created: int
    queue: str  # empty: not queued yet
    our_queue: str  # the LocalQueue that it is ours for; empty: not ours
    priority: int
    active: bool
    deleted: bool
    owner: str  # kind and name of what adopted it
    request: str
    submitted: int
    lease: str
    end: str
    asked: str = ""  # who asked last, as `ATTEMPT` has it
    limit_s: int | None
    spent_s: int = 0  # what of its time limit counts as spent before it was admitted
    gpus: int
    pod_sets: tuple[tuple[str, int, int], ...]  # name, pods, GPUs of each pod
    marks: dict[str, Mark]
    cluster_queue: str
    shares: tuple[Share, ...]
    evictions: int

    def since(self, condition: str) -> int | None:
        """Return since when a condition holds, by Kueue's clock, which counts whole seconds; None: it does not."""
        mark = self.marks.get(condition)
        return mark.since if mark is not None and mark.holds else None

    def on(self, condition: str) -> bool:
        """Whether a condition holds."""
        return self.since(condition) is not None

    @property
    def key(self) -> str:
        """Its name with its namespace."""
        return f"{self.namespace}/{self.name}"

    @property
    def reserved(self) -> bool:
        """Whether Kueue counts quota for it: until it is finished, inactive or gone."""
        return self.on("QuotaReserved") and not self.finished and self.active

    @property
    def finished(self) -> bool:
        """Whether it is over for good."""
        return self.on("Finished")

    @property
    def safe(self) -> bool:
        """Whether a step may start or go on: all of this must hold, and nothing less will do."""
        return self.reserved and self.on("Admitted") and not self.on("Evicted") and not self.deleted and not self.end

    @property
    def evicted(self) -> bool:
        """Whether Kueue took its quota away while its status still says that it has it."""
        return self.on("QuotaReserved") and self.on("Evicted") and not self.finished

    @property
    def grant(self) -> int:
        """The number of its grant: when the quota was reserved, and whose; 0 for none."""
        reserved = self.since("QuotaReserved")
        if reserved is None:
            return 0
        whose = zlib.crc32(self.uid.encode()) & (2**_UID_BITS - 1)
        return (reserved // SECOND << _UID_BITS) | whose

    @property
    def takeovers(self) -> int:
        """How often another attempt took its grant over."""
        grant, takeovers, _, _ = self._asked
        return takeovers if grant == self.grant else 0

    @property
    def taken_over(self) -> int:
        """When another attempt took its grant over last; 0 for never."""
        return self._asked[2] if self.takeovers else 0

    @property
    def attempt(self) -> str:
        """Who asked last."""
        return self._asked[3]

    @property
    def _asked(self) -> tuple[int, int, int, str]:
        if not self.asked:
            return 0, 0, 0, ""
        grant, takeovers, moment, attempt = self.asked.split(" ", 3)
        return int(grant), int(takeovers), int(moment), attempt

    @property
    def token(self) -> Token | None:
        """The fencing token: grows with each grant of a Workload, by a second, and with each takeover, by another."""
        return Token(self.grant + (self.takeovers << _UID_BITS)) if self.grant else None

    @property
    def admitted(self) -> int | None:
        """When it was admitted."""
        return self.since("Admitted")


def claim_from(item: Object) -> Claim:
    """Read a Workload."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    notes: dict[str, str] = meta.get("annotations", {})
    template: Object = spec["podSets"][0]["template"].get("metadata", {})
    submitted, our_queue, request = _reservation(notes, template)
    owner = next(iter(meta.get("ownerReferences", ())), None)
    admission: Object = status.get("admission") or {}
    stats: Object = status.get("schedulingStats") or {}
    pod_sets = tuple((pods.get("name", "main"), pods["count"], gpus_of(pods["template"])) for pods in spec["podSets"])
    return Claim(
        name=meta["name"],
        namespace=meta.get("namespace", ""),
        uid=meta.get("uid", ""),
        version=meta.get("resourceVersion", ""),
        created=_us_from(meta["creationTimestamp"]) if "creationTimestamp" in meta else 0,
        queue=spec.get("queueName", ""),
        our_queue=our_queue,
        priority=spec.get("priority", 0),
        active=spec.get("active", True),
        deleted="deletionTimestamp" in meta,
        owner=f"{owner['kind']} {owner['name']}" if owner else "",
        request=request,
        submitted=submitted,
        lease=notes.get(LEASE, ""),
        end=notes.get(END, ""),
        asked=(notes.get(ATTEMPT) or template.get("annotations", {}).get(ATTEMPT, "")) if request else "",
        limit_s=spec.get("maximumExecutionTimeSeconds"),
        spent_s=status.get("accumulatedPastExecutionTimeSeconds", 0),
        gpus=sum(pods * gpus for _, pods, gpus in pod_sets),
        pod_sets=pod_sets,
        marks={condition["type"]: _mark(condition) for condition in status.get("conditions", ())},
        cluster_queue=admission.get("clusterQueue", ""),
        shares=tuple(_share(assignment) for assignment in admission.get("podSetAssignments", ())),
        evictions=sum(eviction["count"] for eviction in stats.get("evictions", ())),
    )


def _reservation(notes: dict[str, str], template: Object) -> tuple[int, str, str]:
    """Return when a reservation was submitted, for which queue, and its request; of what is not ours, nothing."""
    text = notes.get(RESERVATION) or template.get("annotations", {}).get(RESERVATION, "")
    submitted, _, rest = text.partition(" ")
    queue, _, request = rest.partition(" ")
    return (int(submitted), queue, request) if submitted.isdecimal() and request else (0, "", "")


def _us_from(text: str) -> int:
    """Return a Kubernetes time in microseconds."""
    return to_us(datetime.fromisoformat(text))


def _gpus_in(resources: Object) -> int:
    """Return the accelerators in a list of resources: GPUs, MIG slices, TPUs, whatever the vendor."""
    return sum(whole(value) for name, value in resources.items() if is_accelerator(name))


def gpus_of(template: Object) -> int:
    """Return the accelerators that a pod of a template asks for."""
    return sum(accelerators_in(requests_of(template["spec"])).values())


def _mark(item: Object) -> Mark:
    return Mark(item["status"] == "True", _us_from(item["lastTransitionTime"]), item["reason"], item.get("message", ""))


def _share(item: Object) -> Share:
    flavors: dict[str, str] = item.get("flavors", {})
    return Share(
        pod_set=item["name"],
        flavor=next((flavor for name, flavor in flavors.items() if is_accelerator(name)), ""),
        pods=item.get("count", 0),
        gpus=_gpus_in(item.get("resourceUsage", {})),
        nodes=_nodes(item.get("topologyAssignment")),
    )


def _nodes(topology: Object | None) -> tuple[tuple[str, int], ...]:
    """Return the lowest domains (nodes, where the topology goes so far) and the pods on each."""
    nodes: list[tuple[str, int]] = []
    for part in (topology or {}).get("slices", ()):
        count, lowest = part["domainCount"], part["valuesPerLevel"][-1]
        each = lowest.get("individual")
        values = [lowest["universal"]] * count if each is None else _spelled(each)
        pods = part["podCounts"].get("individual") or [part["podCounts"]["universal"]] * count
        nodes += zip(values, pods, strict=True)
    return tuple(nodes)


def _spelled(each: Object) -> list[str]:
    return [f"{each.get('prefix', '')}{root}{each.get('suffix', '')}" for root in each["roots"]]
