"""The plan's caps on the nodes of a cluster: which node gets which, for the gangs that run there now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gangplan.clock import floor_hour, require_utc
from gangplan.errors import InputError
from gangplan.execute.green.agent import CAP_LABEL, CLOCK_LABEL
from gangplan.kube import POOL_LABELS, Api, may, read_nodes, read_pods, writing
from gangplan.types import Knob, Plan

LABELS = {Knob.CAP: CAP_LABEL, Knob.CLOCK: CLOCK_LABEL}
MANAGER = "gangplan-power"
"""Our field manager for the labels: another one than that of the nodes' other fields, which it must not give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What is set on each GPU of a node, and the speed that it leaves."""

    knob: Knob
    setting: int
    speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A gang on a node: the class of its work, or empty where nothing tells it."""

    name: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedNode:
    """A node with its pool, the gangs that run there, and what its labels ask for now."""

    name: str
    pool: str
    gangs: tuple[Held, ...] = ()
    labels: Mapping[Knob, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapStep:
    """One change of one node's label, from `before` to `after`; empty means that it has none."""

    node: str
    pool: str
    knob: Knob
    before: str
    after: str
    why: str


Planned = Mapping[tuple[str, str], Cap | None]
"""The cap that a plan has now for each pool and class; None: it plans that work without one."""


def planned_caps(plan: Plan, at: datetime) -> Planned:
    """Return the plan's caps in the hour of `at`; none where its curves were not measured.

    Raises
    ------
    InputError
        The plan does not cover that hour.
    """
    hour = floor_hour(require_utc("at", at))
    if hour not in set(plan.nodes["hour"]):
        raise InputError("at", f"{hour:%Y-%m-%dT%H:%MZ}", "is outside the plan: plan again")
    rows = [] if plan.caps is None else [row for row in plan.caps.to_dicts() if row["hour"] == hour]
    return {(row["pool"], row["workload_class"]): _cap(Knob(row["knob"]), row["setting"], row["speed"]) for row in rows}


def _cap(knob: Knob, setting: int, speed: float) -> Cap | None:
    return Cap(knob=knob, setting=setting, speed=speed) if setting else None


def wanted_cap(planned: Planned, pool: str, gangs: Iterable[Held]) -> tuple[Cap | None, str]:
    """Return the cap for a node with these gangs, and why.

    A limit is of the whole node, so the gang that the plan slows least decides. A gang of no known class, or of one
    that the plan has no cap for, is never slowed.
    """
    caps: list[tuple[Cap, str]] = []
    for gang in gangs:
        cap = planned.get((pool, gang.kind))
        if cap is None:
            return None, f"{gang.name} ({gang.kind or 'of no known class'}) runs here, which the plan does not cap"
        caps.append((cap, f"the plan caps {gang.kind} work on {pool}, as of {gang.name}"))
    if not caps:
        return None, "no gang runs here"
    if len({cap.knob for cap, _ in caps}) > 1:
        return None, "a cap and a locked clock would be on one node"
    return max(caps, key=lambda pair: (pair[0].speed, pair[0].setting))


def cap_steps(planned: Planned, nodes: Iterable[CappedNode]) -> tuple[CapStep, ...]:
    """Return the labels to change, by node: only those that differ."""
    steps: list[CapStep] = []
    for node in nodes:
        cap, why = wanted_cap(planned, node.pool, node.gangs)
        for knob in Knob:
            before = node.labels.get(knob, "")
            after = str(cap.setting) if cap is not None and cap.knob is knob else ""
            if before != after:
                steps.append(CapStep(node=node.name, pool=node.pool, knob=knob, before=before, after=after, why=why))
    return tuple(steps)


class CapTarget:
    """The labels of a cluster's nodes."""

    name = "power"

    def __init__(self, api: Api, pools: Iterable[str]) -> None:
        self._api, self._pools = api, frozenset(pools)

    def observe(self) -> tuple[CappedNode, ...]:
        """Return the nodes of our pools, with the gangs that hold GPUs there: pods that are bound and not over."""
        gangs: dict[str, list[Held]] = {}
        for pod in read_pods(self._api):
            if pod.node and pod.ended is None:
                gangs.setdefault(pod.node, []).append(Held(name=f"{pod.tenant}/{pod.name}", kind=pod.kind))
        return tuple(
            CappedNode(
                name=node.name,
                pool=node.pool,
                gangs=tuple(gangs.get(node.name, ())),
                labels={knob: node.labels[label] for knob, label in LABELS.items() if label in node.labels},
            )
            for node in read_nodes(self._api)
            if node.pool in self._pools
        )

    def check(self) -> tuple[str, ...]:
        """Return what keeps caps from nodes, each with its remedy; nothing is changed."""
        there = {node.pool for node in self.observe()}
        found = [
            f"power.pools: no node of the cluster is of pool {pool}: label its nodes {POOL_LABELS[0]}={pool}"
            for pool in sorted(self._pools - there)
        ]
        if not may(self._api, "", "", "nodes", "patch"):
            remedy = "gangplan kube manifests --executor | kubectl apply -f -"
            found.append(f"the right to patch nodes is missing in the cluster: {remedy}")
        return tuple(found)

    def apply(self, step: CapStep, *, dry_run: bool = False) -> None:
        """Set one node's label, or with `dry_run` let the API server check it; set already, it changes nothing.

        Raises
        ------
        NotFoundError
            The node is gone: observe again.
        """
        body = {"metadata": {"labels": {LABELS[step.knob]: step.after or None}}}
        self._api.merge(f"/api/v1/nodes/{step.node}", body, **writing(MANAGER, dry_run=dry_run))
