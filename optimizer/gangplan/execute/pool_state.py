"""One pool as it stands: its goal, its nodes, its quotas, and the gangs that hold its slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil

from gangplan.execute.wanted import Goal
from gangplan.types import Grant, Observation, PoolNode, PoolNodes, Quota

SETTLE = timedelta(seconds=5)
"""How long a change must stand until all have seen it: a scheduler with an older view still binds a pod to a node that
was just cordoned, and Kueue still admits a gang by a quota that was just lowered."""


@dataclass(frozen=True, kw_only=True)
class PoolState:
    """A pool, and what follows from its nodes, quotas and grants; `nodes` is missing where no engine told of them.

    `unsettled` are the groups of places whose quotas were changed a moment ago.
    """

    goal: Goal
    nodes: PoolNodes | None = None
    quotas: tuple[Quota, ...] = ()
    grants: tuple[Grant, ...] = ()
    unsettled: frozenset[str] = frozenset()

    @cached_property
    def usable(self) -> int:
        """The nodes on which new pods can run."""
        if self.nodes is None:
            return 0
        return self.nodes.ordered if not self.nodes.named else sum(map(is_open, self.nodes.nodes))

    @cached_property
    def holders(self) -> dict[str, tuple[str, ...]]:
        """Each node under a grant with the names of the grants; nodes that the pool no longer has are left out."""
        holders: dict[str, tuple[str, ...]] = {}
        for grant in self.grants:
            for node in self._known(grant):
                holders[node] = (*holders.get(node, ()), grant.name)
        return holders

    @cached_property
    def needed(self) -> int:
        """The fewest nodes that the grants need; no node holds more than it has, though two tell of the same gang."""
        per_node = self.goal.slots_per_node
        on: Counter[str] = Counter()
        for grant in self.grants:
            on.update({node: grant.nodes[node] for node in self._known(grant)})
        afloat = sum(slots_of(grant) - self._placed(grant) for grant in self.grants)
        placed = sum(min(slots, per_node) for slots in on.values())
        return max(self._held, ceil((placed + afloat) / per_node))

    @cached_property
    def kept(self) -> int:
        """The nodes that must stay: the plan's, or those under grants with whole ones for what is on no known node."""
        per_node = self.goal.slots_per_node
        afloat = sum(ceil((slots_of(grant) - self._placed(grant)) / per_node) for grant in self.grants)
        return max(self.goal.ahead, self.needed, self._held + afloat)

    @cached_property
    def promised(self) -> int:
        """The slots that the places may grant or have granted, whichever is more in each group."""
        return sum(max(slots, used) for slots, used in self.groups.values())

    @cached_property
    def outside(self) -> int:
        """The slots that are held and that no quota counts."""
        return sum(slots_of(grant) for grant in self.grants if not grant.by_quota)

    @cached_property
    def spoken_for(self) -> int:
        """The slots that nodes must have: those promised, and those held outside of all quotas."""
        return self.promised + self.outside

    @cached_property
    def groups(self) -> dict[str, tuple[int, int]]:
        """Each group of places with its quota and what it has granted, in slots."""
        groups: dict[str, tuple[int, int]] = {}
        for quota in self.quotas:
            slots, used = groups.get(quota.group, (0, 0))
            groups[quota.group] = (slots + quota.slots, used + quota.used)
        return groups

    @cached_property
    def holding(self) -> tuple[str, ...]:
        """The names of the pool's grants."""
        return tuple(sorted(grant.name for grant in self.grants))

    @cached_property
    def _held(self) -> int:
        """The nodes under grants; where nodes are numbered from 0 and have no names, all up to the highest."""
        if self.nodes is None or self.nodes.named:
            return len(self.holders)
        numbers = [int(number) for name in self.holders if (number := name.rpartition("-")[2]).isdecimal()]
        return max(len(self.holders), *(number + 1 for number in numbers), 0)

    @cached_property
    def _present(self) -> frozenset[str]:
        """The names of the nodes that stay."""
        return frozenset(node.name for node in self.nodes.nodes if not node.leaving) if self.nodes else frozenset()

    def _known(self, grant: Grant) -> list[str]:
        """Return the nodes of a grant that the pool has."""
        any_name = self.nodes is not None and not self.nodes.named
        return [node for node, slots in grant.nodes.items() if slots and (any_name or node in self._present)]

    def _placed(self, grant: Grant) -> int:
        """Return the slots of a grant that are on nodes which the pool has."""
        return sum(grant.nodes[node] for node in self._known(grant))


def is_open(node: PoolNode) -> bool:
    """Return whether new pods can run on the node."""
    return node.usable and node.cordoned_at is None and not node.closed and not node.leaving


def slots_of(grant: Grant) -> int:
    """Return the slots of a grant, those on nodes counted at least."""
    return max(grant.slots, sum(grant.nodes.values()))


def pool_states(
    goals: Iterable[Goal], observed: Observation, grants: Iterable[Grant], now: datetime
) -> tuple[PoolState, ...]:
    """Return the state of each pool that has a goal; what an engine has of other pools is left alone."""
    nodes = {found.pool: found for found in observed.nodes}
    quotas: dict[str, list[Quota]] = {}
    for quota in observed.quotas:
        quotas.setdefault(quota.pool, []).append(quota)
    held: dict[str, list[Grant]] = {}
    for grant in united((*observed.grants, *grants)):
        held.setdefault(grant.pool, []).append(grant)
    return tuple(
        PoolState(
            goal=goal,
            nodes=nodes.get(goal.pool),
            quotas=tuple(quotas.get(goal.pool, ())),
            grants=tuple(held.get(goal.pool, ())),
            unsettled=frozenset(
                quota.group
                for quota in quotas.get(goal.pool, ())
                if quota.changed_at is not None and quota.changed_at > now - SETTLE
            ),
        )
        for goal in goals
    )


def united(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Return each grant of a pool once: two tellers of one grant may know different nodes of it."""
    found: dict[tuple[str, str], Grant] = {}
    for grant in grants:
        key = (grant.pool, grant.name)
        found[key] = _both(found[key], grant) if key in found else grant
    return tuple(found.values())


def _both(one: Grant, other: Grant) -> Grant:
    """Return one grant with the nodes of two tellers."""
    nodes = {
        name: max(one.nodes.get(name, 0), other.nodes.get(name, 0))
        for name in dict.fromkeys((*one.nodes, *other.nodes))
    }
    ends = [grant.until for grant in (one, other) if grant.until is not None]
    return Grant(
        name=one.name,
        pool=one.pool,
        slots=max(one.slots, other.slots),
        nodes=nodes,
        until=max(ends, default=None),
        by_quota=one.by_quota or other.by_quota,
    )
