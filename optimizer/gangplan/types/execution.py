"""A plan on its way to real engines: what they have, who holds it, and the steps from there to the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class StepKind(StrEnum):
    """What a step does, in the order in which steps are taken."""

    PROTECT = "protect"  # pods under grants say that nobody may disturb them
    LOWER_QUOTA = "lower quota"
    UNCORDON = "uncordon"
    ORDER = "order"
    RAISE_QUOTA = "raise quota"
    CORDON = "cordon"
    LAYOUT = "layout"  # the GPUs of an empty, cordoned node are divided otherwise
    REMOVE = "remove"
    MINIMUM = "minimum"  # a server keeps so many replicas, or a buffer so many nodes


QUOTA_STEPS = frozenset({StepKind.LOWER_QUOTA, StepKind.RAISE_QUOTA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Slots of a pool that a gang holds; those that `nodes` does not count will be on nodes that nobody knows yet.

    `by_quota` is false for what no quota counts, such as a pod that no queue admitted.
    """

    name: str
    pool: str
    slots: int
    nodes: Mapping[str, int] = field(default_factory=dict[str, int])
    until: datetime | None = None
    by_quota: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNode:
    """A node of a pool, as its engine has it.

    `usable` means that pods can run on it: a node that is Ready need not be. `cordoned_at` is the moment of our own
    cordon; `closed` that somebody else keeps pods away; `leaving` that its end is under way.
    """

    name: str
    usable: bool = True
    cordoned_at: datetime | None = None
    closed: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNodes:
    """A pool's nodes: how many its engine was told to have, and those that there are.

    An engine that only has a number, as the fleet file, is not `named`: all its nodes are usable, and none has a name.
    `unprotected` are pods under grants that the engine may still disturb, as `namespace/name`. `trouble` is why ordered
    nodes do not come, in the engine's words. `irrevocable` is for what to wait where ordered nodes that have not come
    cannot be withdrawn now.
    """

    pool: str
    ordered: int
    nodes: tuple[PoolNode, ...] = ()
    unprotected: tuple[str, ...] = ()
    trouble: str = ""
    irrevocable: str = ""
    named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many slots of a pool one place (a ClusterQueue, a Cohort) may grant, and how many it has granted.

    Places of one `group` lend to each other what they do not use. `weight` is the place's share of the pool.
    `changed_at` is when its number was last written, where the engine tells: what was lowered since may still be
    granted by mistake. `keeps` says that what was granted stays when the number falls below it.
    """

    pool: str
    place: str
    group: str
    slots: int
    used: int
    weight: float = 1.0
    changed_at: datetime | None = None
    keeps: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the engines have, as they said at one moment."""

    nodes: tuple[PoolNodes, ...] = ()
    quotas: tuple[Quota, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of one pool, from `before` to `after`, which the engine compares with what it has before it writes.

    Both are slots of the `place` for quotas; nodes ordered for `ORDER` and `REMOVE`; nodes that we have not cordoned
    for `CORDON` and `UNCORDON`; pods without protection for `PROTECT`; and for `MINIMUM` replicas of a server, which
    stands in `pool`. `place` is the quota's; `nodes` names the nodes to cordon, uncordon or remove, or the pods to
    protect. A step that must wait says for what in `waits_for`, and whose grants hold it back in `held_by`.
    """

    kind: StepKind
    pool: str
    before: int
    after: int
    why: str
    place: str = ""
    nodes: tuple[str, ...] = ()
    waits_for: str = ""
    held_by: tuple[str, ...] = ()
