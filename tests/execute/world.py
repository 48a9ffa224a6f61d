"""A small model of clusters and clouds: nodes that start and die, gangs that are admitted by quota and bound later.

It does what the real ones were seen to do: nodes are there before they can be used, a scheduler with an old view binds
to a node that was just cordoned, an order that has not come can be withdrawn, Kueue with an old view admits by a quota
that was just lowered, lowering a quota evicts nobody, a cohort's places lend to each other, and a lost node is replaced
by its engine. Time moves only when a test moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gangplan.errors import ConflictError, GangplanError
from gangplan.execute import SETTLE
from gangplan.types import (
    Grant,
    Observation,
    Pool,
    PoolKind,
    PoolNode,
    PoolNodes,
    Quota,
    Step,
    StepKind,
)

SLOTS = 4


def pool(name: str, startup_minutes: float = 0.0) -> Pool:
    """A pool of at most six nodes with four GPUs each."""
    return Pool(
        name=name,
        accelerator="h100",
        gpus_per_node=SLOTS,
        kind=PoolKind.ON_DEMAND,
        price_per_node_hour=1,
        max_nodes=6,
        lead_time_hours=1 if startup_minutes else 0,
        startup_minutes_p50=startup_minutes / 2,
        startup_minutes_p95=startup_minutes,
    )


@dataclass(kw_only=True)
class Node:
    """A node: there from `comes_at` on, to be used from `usable_at` on, while it is neither closed nor broken."""

    name: str
    comes_at: datetime
    usable_at: datetime
    cordoned_at: datetime | None = None
    broken: bool = False


@dataclass(kw_only=True)
class Gang:
    """A gang that was admitted: its slots, and on which nodes its pods are bound so far."""

    name: str
    place: str
    slots: int
    nodes: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def afloat(self) -> int:
        """The slots whose pods are not bound yet."""
        return self.slots - sum(self.nodes.values())


@dataclass(kw_only=True)
class Place:
    """A ClusterQueue: its quota, and the cohort it lends in."""

    group: str
    slots: int = 0
    changed_at: datetime | None = None
    keeps: bool = False


@dataclass(kw_only=True)
class PoolWorld:
    """One pool with its engine, queues and gangs."""

    name: str
    places: dict[str, Place]
    delay: timedelta = timedelta(seconds=60)
    ordered: int = 0
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    gangs: dict[str, Gang] = field(default_factory=dict[str, Gang])
    unprotected: set[str] = field(default_factory=set[str])
    born: int = 0
    lacks: bool = False
    admitted: int = 0
    views: list[tuple[datetime, dict[str, int]]] = field(default_factory=list[tuple[datetime, dict[str, int]]])

    def used(self, place: str) -> int:
        """The slots that a place has granted."""
        return sum(gang.slots for gang in self.gangs.values() if gang.place == place)

    def granted(self) -> int:
        """The slots that all places have granted."""
        return sum(gang.slots for gang in self.gangs.values())

    def bound(self, node: str) -> int:
        """The slots that are taken on a node."""
        return sum(gang.nodes.get(node, 0) for gang in self.gangs.values())

    def open(self, now: datetime) -> list[Node]:
        """The nodes on which new pods may run."""
        return [
            node
            for node in self.nodes.values()
            if node.usable_at <= now and node.cordoned_at is None and not node.broken
        ]

    def groups(self) -> dict[str, tuple[int, int]]:
        """Quota and use of each cohort."""
        found: dict[str, tuple[int, int]] = {}
        for name, place in self.places.items():
            slots, used = found.get(place.group, (0, 0))
            found[place.group] = (slots + place.slots, used + self.used(name))
        return found

    def promised(self) -> int:
        """The slots that may be granted or are."""
        return sum(max(pair) for pair in self.groups().values())

    def admit(self, place: str, slots: int, view: dict[str, int] | None = None) -> Gang | None:
        """Admit a gang if its cohort has the quota, or had it in an older `view` of the quotas."""
        group = self.places[place].group
        quota, used = self.groups()[group]
        if view is not None:
            quota = sum(view[name] for name, each in self.places.items() if each.group == group)
        if used + slots > quota:
            return None
        self.admitted += 1
        gang = Gang(name=f"{self.name}-gang-{self.admitted}", place=place, slots=slots)
        self.gangs[gang.name] = gang
        self.unprotected.add(gang.name)
        return gang

    def old_view(self, now: datetime) -> dict[str, int] | None:
        """The oldest quotas by which Kueue may still admit a gang: those before the changes of the last seconds."""
        return next((slots for until, slots in self.views if now - until < SETTLE), None)

    def bind(self, gang: str, now: datetime) -> None:
        """Bind a gang's pods where there is room; the scheduler may not have seen a cordon of the last seconds."""
        pods = self.gangs[gang]
        for node in self.nodes.values():
            late = node.cordoned_at is not None and now - node.cordoned_at < SETTLE
            if node.usable_at <= now and not node.broken and (node.cordoned_at is None or late):
                more = min(SLOTS - self.bound(node.name), pods.afloat)
                if more > 0:
                    pods.nodes[node.name] = pods.nodes.get(node.name, 0) + more

    def lose(self, node: str) -> None:
        """Lose a node with the pods on it; the gang stays admitted and its pods wait for another place."""
        del self.nodes[node]
        for gang in self.gangs.values():
            gang.nodes.pop(node, None)

    def grow(self, now: datetime) -> None:
        """Start the nodes that were ordered and are not there; where capacity lacks, none."""
        while len(self.nodes) < self.ordered and not self.lacks:
            self.born += 1
            name = f"{self.name}-{self.born}"
            self.nodes[name] = Node(name=name, comes_at=now + self.delay / 2, usable_at=now + self.delay)

    def seen(self, now: datetime) -> Observation:
        """What the engine says of the pool."""
        nodes = tuple(
            PoolNode(name=node.name, usable=node.usable_at <= now and not node.broken, cordoned_at=node.cordoned_at)
            for node in self.nodes.values()
            if node.comes_at <= now
        )
        pods = tuple(sorted(self.unprotected))
        return Observation(
            nodes=(PoolNodes(pool=self.name, ordered=self.ordered, nodes=nodes, unprotected=pods),),
            quotas=tuple(
                Quota(
                    pool=self.name,
                    place=name,
                    group=place.group,
                    slots=place.slots,
                    used=self.used(name),
                    changed_at=place.changed_at,
                    keeps=place.keeps,
                )
                for name, place in self.places.items()
            ),
            grants=tuple(
                Grant(name=gang.name, pool=self.name, slots=gang.slots, nodes=dict(gang.nodes))
                for gang in self.gangs.values()
            ),
        )

    def take(self, step: Step, now: datetime) -> None:
        """Take a step, if all is as it was when the step was made."""
        if step.kind is StepKind.PROTECT:
            self.unprotected -= set(step.nodes)
        elif step.kind in (StepKind.LOWER_QUOTA, StepKind.RAISE_QUOTA):
            place = self.places[step.place]
            _require(place.slots == step.before, "quota")
            self.views.append((now, {name: each.slots for name, each in self.places.items()}))
            place.slots, place.changed_at = step.after, now
        elif step.kind in (StepKind.ORDER, StepKind.REMOVE):
            _require(self.ordered == step.before, "ordered")
            self._remove(step, now)
            self._withdraw(step, now)
            self.ordered = step.after
            self.grow(now)
        else:
            self._turn(step, now)

    def _remove(self, step: Step, now: datetime) -> None:
        """Take nodes away that are cordoned long enough, and empty."""
        for name in step.nodes:
            node = self.nodes.get(name)
            settled = node is not None and node.cordoned_at is not None and now - node.cordoned_at >= SETTLE
            _require(settled and not self.bound(name), f"node {name}")
        for name in step.nodes:
            del self.nodes[name]

    def _withdraw(self, step: Step, now: datetime) -> None:
        """Give up nodes that are not there yet; an engine that would have to choose one that is there refuses."""
        coming = [name for name, node in self.nodes.items() if node.comes_at > now]
        _require(len(self.nodes) - len(coming) <= step.after, "nodes that are there")
        for name in coming[: max(len(self.nodes) - step.after, 0)]:
            del self.nodes[name]

    def _turn(self, step: Step, now: datetime) -> None:
        """Cordon or open nodes."""
        there = [node for node in self.nodes.values() if node.comes_at <= now]
        _require(sum(node.cordoned_at is None for node in there) == step.before, "nodes that are not cordoned")
        _require(set(step.nodes) <= {node.name for node in there}, "nodes")
        for name in step.nodes:
            self.nodes[name].cordoned_at = now if step.kind is StepKind.CORDON else None


def _require(holds: bool, what: str) -> None:
    """Refuse a step that was made from something else."""
    if not holds:
        raise ConflictError(f"{what}: is not what the step was made from")


class WorldTarget:
    """The model as an engine that plans are carried out on; `before_call` may raise what the engine would."""

    name = "world"
    kinds = frozenset(StepKind)

    def __init__(self, pools: dict[str, PoolWorld], clock: Callable[[], datetime]) -> None:
        self.pools = pools
        self.clock = clock
        self.before_call: Callable[[Step | None], GangplanError | None] = lambda _: None
        self.taken: list[Step] = []

    def observe(self) -> Observation:
        """What all pools have."""
        if error := self.before_call(None):
            raise error
        seen = [world.seen(self.clock()) for world in self.pools.values()]
        return Observation(
            nodes=tuple(nodes for each in seen for nodes in each.nodes),
            quotas=tuple(quota for each in seen for quota in each.quotas),
            grants=tuple(grant for each in seen for grant in each.grants),
        )

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take a step."""
        if error := self.before_call(step):
            raise error
        if not dry_run:
            self.pools[step.pool].take(step, self.clock())
            self.taken.append(step)

    def check(self) -> tuple[str, ...]:
        """Nothing is in the way."""
        return ()

    def close(self) -> None:
        """Nothing is open."""
