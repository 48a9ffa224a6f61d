"""Which layout each pool has, and what a node says of its own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from gangplan.errors import InputError
from gangplan.types import WHOLE_GPU, Fleet, Pool

SETTLE = timedelta(seconds=5)
"""So long after its cordon a node may still get a pod that the scheduler had bound before."""

BUSY = frozenset({"pending", "rebooting"})
"""The states of a node whose GPUs are being divided."""


@dataclass(frozen=True, kw_only=True)
class Layouts:
    """Pools of the same GPUs, divided otherwise: the value of `nvidia.com/mig.config` for each.

    `minutes` is how long a change may take. `at_once` is the most nodes that are changed at a time; a node whose change
    has failed counts, so that a wrong layout spoils no more of them.
    """

    configs: Mapping[str, str]
    minutes: float = 30.0
    at_once: int = 2

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if len(self.configs) < 2:
            raise InputError("layouts.configs", dict(self.configs), "needs two pools or more: nodes move between them")
        if self.minutes <= 0:
            raise InputError("layouts.minutes", self.minutes, "must be greater than 0")
        if self.at_once < 1:
            raise InputError("layouts.at_once", self.at_once, "must be 1 or more")

    def check(self, fleet: Fleet) -> None:
        """Refuse pools that are not in the fleet, that have other GPUs, or two of which have the same slot."""
        pools = [fleet.pool(name) for name in self.configs]
        for pool in pools[1:]:
            for name in ("accelerator", "gpus_per_node", "zone"):
                if getattr(pool, name) != getattr(pools[0], name):
                    what = f"has another {name} than {pools[0].name}: no layout turns one node into the other"
                    raise InputError("layouts.configs", pool.name, what)
        slots = [pool.slot for pool in pools]
        for pool in pools:
            if slots.count(pool.slot) > 1:
                raise InputError("layouts.configs", pool.name, f"has the slot {pool.slot} of another pool of its group")


def check_layouts(groups: Iterable[Layouts], placed: Container[str], fleet: Fleet) -> None:
    """Refuse groups with pools that have no place in targets.yaml, or that are in two groups."""
    seen: set[str] = set()
    for group in groups:
        group.check(fleet)
        for pool in group.configs:
            if pool not in placed:
                raise InputError("layouts.configs", pool, "has no place: name it under `pools`, too")
            if pool in seen:
                raise InputError("layouts.configs", pool, "is in two groups: put all pools of its GPUs into one")
            seen.add(pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutNode:
    """A node of a group: its pool and layout by label, and what its kubelet counts.

    `moves_to` is the pool that we move it to, since `since`: its cordon or, later, its new label. `pods` are those that
    use its accelerators; only a node that moves says them. `cordoned`: a plan with fewer nodes keeps pods away;
    `closed`: somebody else does.
    """

    name: str
    pool: str
    config: str = ""
    state: str = ""
    slots: int = 0
    slot: str = WHOLE_GPU
    ready: bool = True
    cordoned: bool = False
    closed: bool = False
    moves_to: str = ""
    since: datetime | None = None
    pods: tuple[str, ...] = field(default=())

    def serves(self, pool: Pool) -> bool:
        """Whether its accelerators are divided as that pool's."""
        return self.slot == pool.slot and self.slots == pool.slots_per_node

    def wants_layout(self, pool: Pool, config: str) -> bool:
        """Whether it is labelled otherwise than its pool; without a label, whether it is divided otherwise."""
        return self.config != config if self.config else not self.serves(pool)
