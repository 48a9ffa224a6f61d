"""What a cluster went through, change by change in the order in which it stored them, and what went wrong in it.

All objects of a cluster share one counter of versions. So the changes of several watches, sorted by it, are the exact
history, and nothing is taken for wrong because two lists were read at different moments.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.servers.fleet import GPU, POOL

from gangplan.kube.api import listed, part

Object = dict[str, Any]

GANG = "gangplan.io/bench-gang"
INITIALIZED = "karpenter.sh/initialized"
NODE, POD, WORKLOAD, QUOTA = "node", "pod", "workload", "quota"
ENDED = ("Succeeded", "Failed")
_LATELY = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node: whether it is there for pods, and whether new ones may come."""

    pool: str
    initialized: bool
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a gang. `refused` says that the scheduler found no node for it."""

    gang: str
    node: str
    phase: str
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a gang holds: GPUs by flavor."""

    granted: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a Cohort may grant: GPUs by flavor."""

    slots: tuple[tuple[str, str], ...]


State = Node | Pod | Workload | Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an object became with a version; nothing, where it was deleted. `seen_at` is when we heard of it.

    `unseen` says that a list told of it after a gap, in which more may have happened.
    """

    version: int
    seen_at: float
    kind: str
    name: str
    state: State | None
    unseen: bool = False


@dataclass(kw_only=True)
class Findings:
    """What went wrong.

    `over` are states of the cluster in which more of a flavor was granted than usable nodes have, `worst` the most GPUs
    too many; `lost` are gangs that lost a node or a pod; `refused` those whose pods found no node, with the seconds
    until all of them had. `notes` tell each change after which more was granted than there was, and what nodes and
    quotas went through before it.
    """

    states: int = 0
    over: int = 0
    worst: int = 0
    over_s: float = 0.0
    lost: set[str] = field(default_factory=set[str])
    refused: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])


def node_from(item: Object) -> Node:
    """Read a node."""
    labels, spec = part(item, "metadata", "labels"), part(item, "spec")
    leaving = "deletionTimestamp" in item["metadata"]
    away = any(one["key"].startswith("karpenter.sh/") for one in listed(spec, "taints"))
    initialized = labels.get(INITIALIZED) == "true"
    opened = initialized and not (leaving or away or spec.get("unschedulable", False))
    return Node(pool=labels.get(POOL, ""), initialized=initialized, open=opened)


def pod_from(item: Object) -> Pod:
    """Read a pod."""
    conditions = listed(part(item, "status"), "conditions")
    refused = any(one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable" for one in conditions)
    return Pod(
        gang=part(item, "metadata", "labels").get(GANG, ""),
        node=part(item, "spec").get("nodeName", ""),
        phase=part(item, "status").get("phase", ""),
        refused=refused,
    )


def workload_from(item: Object) -> Workload:
    """Read what a Workload holds: nothing once it is finished, and nothing for pods that Kueue knows to have ended."""
    status = part(item, "status")
    conditions = {one["type"]: one["status"] for one in listed(status, "conditions")}
    granted: dict[str, int] = {}
    ended = {one["name"]: int(one["count"]) for one in listed(status, "reclaimablePods")}
    if conditions.get("QuotaReserved") == "True" and conditions.get("Finished") != "True":
        for given in listed(part(status, "admission"), "podSetAssignments"):
            flavor = part(given, "flavors").get(GPU, "")
            gpus, pods = int(part(given, "resourceUsage").get(GPU, 0)), int(given.get("count", 1))
            holding = gpus * (pods - ended.get(given["name"], 0)) // max(pods, 1)
            granted[flavor] = granted.get(flavor, 0) + holding
    return Workload(granted=tuple(sorted(granted.items())))


def limits_from(item: Object) -> Limits:
    """Read the quotas of a Cohort."""
    groups = listed(part(item, "spec"), "resourceGroups")
    return Limits(
        slots=tuple(
            (flavor["name"], str(resource["nominalQuota"]))
            for group in groups
            for flavor in listed(group, "flavors")
            for resource in listed(flavor, "resources")
            if resource["name"] == GPU
        )
    )


def findings(changes: Iterable[Change], gpus: Mapping[str, int]) -> Findings:
    """Go through a history and return what went wrong in it.

    Parameters
    ----------
    gpus
        By pool: the GPUs of a node. A flavor has its pool's name.
    """
    found = Findings()
    there: dict[tuple[str, str], State] = {}
    counts = _Counts(gpus)
    refused_since: dict[str, float] = {}
    was_over = 0.0
    lately: deque[str] = deque(maxlen=_LATELY)
    for change in sorted(changes, key=lambda one: one.version):
        key = (change.kind, change.name)
        before = there.pop(key, None)
        if change.state is not None:
            there[key] = change.state
        counts.turn(before, change.state)
        found.states += 1
        if was_over:
            found.over_s += max(change.seen_at - was_over, 0.0)
        excess = counts.excess
        line = (
            f"{change.seen_at:.2f} {change.version} {change.kind} {change.name}: {before} -> {change.state}: {counts}"
        )
        if change.kind in (NODE, QUOTA):
            lately.append(line)
        if excess > 0:
            found.over += 1
            found.notes += [*lately, f"OVER {line}"] if not was_over else [f"OVER {line}"]
            lately.clear()
        found.worst = max(found.worst, excess)
        was_over = change.seen_at if excess > 0 else 0.0
        found.lost |= set(_lost(change, before, there))
        _refusals(change, there, refused_since, found)
    return found


class _Counts:
    """The GPUs of open nodes and the GPUs granted, by pool."""

    def __init__(self, gpus: Mapping[str, int]) -> None:
        self._gpus = gpus
        self._open = dict.fromkeys(gpus, 0)
        self._granted = dict.fromkeys(gpus, 0)

    def turn(self, before: State | None, now: State | None) -> None:
        """Take a change in."""
        for state, sign in ((before, -1), (now, 1)):
            if isinstance(state, Node) and state.open and state.pool in self._open:
                self._open[state.pool] += sign * self._gpus[state.pool]
            elif isinstance(state, Workload):
                for flavor, granted in state.granted:
                    self._granted[flavor] = self._granted.get(flavor, 0) + sign * granted

    def __str__(self) -> str:
        return ", ".join(f"{pool} {self._granted[pool]} granted of {self._open[pool]}" for pool in self._open)

    @property
    def excess(self) -> int:
        """The most GPUs that are granted above those that there are."""
        return max(max(self._granted[pool] - self._open[pool] for pool in self._open), 0)


def _lost(change: Change, before: State | None, there: Mapping[tuple[str, str], State]) -> Iterator[str]:
    """Yield the gangs that lose a node or a pod by a change."""
    if isinstance(before, Node) and change.state is None:
        for state in there.values():
            if isinstance(state, Pod) and state.gang and state.node == change.name and state.phase not in ENDED:
                yield state.gang
    if isinstance(before, Pod) and before.gang and change.kind == POD:
        gone = change.state is None and before.phase not in ENDED and not change.unseen
        failed = isinstance(change.state, Pod) and change.state.phase == "Failed"
        if gone or failed:
            yield before.gang


def _refusals(change: Change, there: Mapping[tuple[str, str], State], since: dict[str, float], found: Findings) -> None:
    """Note gangs whose pods find no node, and how long it takes until they have."""
    if change.kind != POD:
        return
    if isinstance(change.state, Pod) and change.state.gang and change.state.refused and not change.state.node:
        since.setdefault(change.state.gang, change.seen_at)
        found.refused.setdefault(change.state.gang, 0.0)
    for gang in [gang for gang in since if not _waits(gang, there)]:
        found.refused[gang] += change.seen_at - since.pop(gang)


def _waits(gang: str, there: Mapping[tuple[str, str], State]) -> bool:
    return any(isinstance(one, Pod) and one.gang == gang and one.refused and not one.node for one in there.values())


def open_nodes(changes: Iterable[Change], moments: Iterable[float]) -> list[dict[str, int]]:
    """Return the nodes by pool that pods could run on at each moment."""
    ordered = sorted((change for change in changes if change.kind == NODE), key=lambda one: one.version)
    times, counts = [0.0], [{}]
    now: dict[str, Node] = {}
    for change in ordered:
        now.pop(change.name, None)
        if isinstance(change.state, Node):
            now[change.name] = change.state
        count: dict[str, int] = {}
        for node in now.values():
            count[node.pool] = count.get(node.pool, 0) + node.open
        times.append(change.seen_at)
        counts.append(count)
    return [counts[bisect_right(times, moment) - 1] for moment in moments]
