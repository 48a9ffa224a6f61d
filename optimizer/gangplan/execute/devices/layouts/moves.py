"""Which node moves to which pool, and what its next step is, as a pure function.

Cordon, wait until it is empty, label, wait for success, look at what the kubelet counts, uncordon. Quota leads: a node
leaves its pool only after the pool's quota is within the nodes that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from gangplan.clock import floor_hour, in_words, require_utc
from gangplan.errors import InputError
from gangplan.execute.devices.layouts.values import BUSY, SETTLE, LayoutNode, Layouts
from gangplan.execute.pool_state import united
from gangplan.types import Grant, Observation, Plan, Pool, Quota, Step, StepKind


def layout_steps(
    layouts: Layouts,
    plan: Plan,
    nodes: Iterable[LayoutNode],
    observed: Observation,
    grants: Iterable[Grant],
    now: datetime,
) -> tuple[Step, ...]:
    """Return the next step of each node that moves or must move; one that must wait says for what.

    Of what was observed, quotas and grants count; `grants` are those that no engine knows.

    Raises
    ------
    InputError
        The plan does not cover this hour, or the group has a pool that is not in the plan.
    """
    require_utc("now", now)
    layouts.check(plan.fleet)
    group = _Group(layouts, plan, tuple(nodes), observed.quotas, united((*observed.grants, *grants)), now)
    return (*group.under_way(), *group.new())


@dataclass(frozen=True)
class _Group:
    """The pools of one group at one moment."""

    layouts: Layouts
    plan: Plan
    nodes: tuple[LayoutNode, ...]
    quotas: tuple[Quota, ...]
    grants: tuple[Grant, ...]
    now: datetime

    # ---------------------------------------------------------------- nodes that move already

    def under_way(self) -> Iterator[Step]:
        """Yield the next step of each node that moves."""
        too_many = {pool: self._count(pool) - self._wanted(pool) for pool in self.layouts.configs}
        for node in self._moving():
            if not self._labelled(node) and node.pool != node.moves_to and too_many[node.moves_to] > 0:
                too_many[node.moves_to] -= 1
                yield self._step(StepKind.UNCORDON, node, node.pool, "the plan needs it in its pool again")
            elif not self._labelled(node):
                yield self._label(node)
            else:
                yield self._open(node)

    def _moving(self) -> list[LayoutNode]:
        return [node for node in self.nodes if node.moves_to in self.layouts.configs]

    def _labelled(self, node: LayoutNode) -> bool:
        return node.pool == node.moves_to and node.config == self.layouts.configs[node.moves_to]

    def _label(self, node: LayoutNode) -> Step:
        """Return the step that labels a cordoned node."""
        holders = tuple(sorted(grant.name for grant in self.grants if grant.nodes.get(node.name)))
        since = self.now - (node.since or self.now)
        waits = ""
        if node.pods or holders:
            waits = f"{node.name} is in use: {', '.join(node.pods[:4]) or 'granted'}"
        elif node.state in BUSY and self._over(node):
            waits = self._remedy(node, self.plan.fleet.pool(node.moves_to))
        elif node.state in BUSY:
            waits = f"the GPUs of {node.name} are being divided ({node.state})"
        elif since < SETTLE:
            waits = f"{node.name} was cordoned {since.total_seconds():.0f} s ago: a pod may still be on its way"
        why = f"its layout becomes {self.layouts.configs[node.moves_to]}"
        return self._step(StepKind.LAYOUT, node, node.moves_to, why, waits_for=waits, held_by=holders)

    def _open(self, node: LayoutNode) -> Step:
        """Return the step that opens a labelled node."""
        pool = self.plan.fleet.pool(node.moves_to)
        if node.state == "success" and node.serves(pool) and node.ready:
            waits = ""
        elif node.state == "failed" or self._over(node):
            waits = self._remedy(node, pool)
        elif node.state == "success":
            waits = f"{node.name} has {_slots(node.slots, node.slot)} and not yet {_of_pool(pool)}"
        else:
            waits = f"the GPUs of {node.name} are being divided ({node.state or 'not begun'})"
        return self._step(StepKind.UNCORDON, node, node.moves_to, "its layout is done", waits_for=waits)

    def _over(self, node: LayoutNode) -> bool:
        """Whether its last step has taken longer than it may."""
        return self.now - (node.since or self.now) > timedelta(minutes=self.layouts.minutes)

    def _remedy(self, node: LayoutNode, pool: Pool) -> str:
        """Say what is wrong with a node that stays cordoned, and what helps: only a change of the label wakes it."""
        config = self.layouts.configs[pool.name]
        other = next(one for one in self.layouts.configs.values() if one != config)
        state, span = node.state or "none", in_words(self.now - (node.since or self.now))
        return (
            f"{node.name} stays cordoned: state {state} {span} after its label, {_slots(node.slots, node.slot)} of "
            f"{_of_pool(pool)}. Read the log of its mig-manager, then change the label: kubectl label node {node.name} "
            f"nvidia.com/mig.config={other} --overwrite (only a change wakes it; {config} follows)"
        )

    # ---------------------------------------------------------------- nodes that begin to move

    def new(self) -> Iterator[Step]:
        """Yield the cordons of nodes that must move, or why they must wait."""
        moves = [*self._mended(), *self._moved()]
        room = self.layouts.at_once - len(self._moving())
        leaving: dict[str, int] = {}
        for node, to in moves:
            waits = "" if node.cordoned else self._held(node.pool, leaving.get(node.pool, 0) + 1)
            if not waits and room <= 0:
                waits = f"{len(self._moving()) or self.layouts.at_once} nodes are being changed already"
            if not waits:
                room -= 1
                leaving[node.pool] = leaving.get(node.pool, 0) + (not node.cordoned)
            why = f"moves to {to}" if to != node.pool else f"its layout is {node.config or 'not that of its pool'}"
            yield self._step(StepKind.CORDON, node, node.pool, why, to=to, waits_for=waits)

    def _mended(self) -> Iterator[tuple[LayoutNode, str]]:
        """Yield the idle nodes that are divided otherwise than their pool."""
        for pool, config in self.layouts.configs.items():
            for node in self._staying(pool):
                if node.wants_layout(self.plan.fleet.pool(pool), config):
                    yield node, pool

    def _moved(self) -> Iterator[tuple[LayoutNode, str]]:
        """Yield the nodes that a pool can spare, with the pool that needs them."""
        spare = [node for pool in self.layouts.configs for node in self._spare(pool)]
        for pool in self.layouts.configs:
            for _ in range(self._wanted(pool) - self._count(pool)):
                node = next((node for node in spare if node.pool != pool), None)
                if node is not None:
                    spare.remove(node)
                    yield node, pool

    def _spare(self, pool: str) -> list[LayoutNode]:
        """Return the nodes that neither the plan nor grants need in a pool, none of which a grant names."""
        held = {node for grant in self.grants for node, slots in grant.nodes.items() if slots}
        config, own = self.layouts.configs[pool], self.plan.fleet.pool(pool)
        free = [node for node in self._staying(pool) if node.name not in held and not node.wants_layout(own, config)]
        granted = -(-sum(grant.slots for grant in self.grants if grant.pool == pool) // own.slots_per_node)
        return free[: max(0, self._count(pool) - max(self._wanted(pool), granted))]

    def _idle(self, pool: str) -> list[LayoutNode]:
        """Return the nodes of a pool on which pods may start."""
        return [one for one in self._staying(pool) if not one.cordoned]

    def _staying(self, pool: str) -> list[LayoutNode]:
        """Return the nodes of a pool that we may change; those that the plan has cordoned first."""
        mine = [one for one in self.nodes if one.pool == pool and not one.moves_to and one.ready and not one.closed]
        return sorted(mine, key=lambda one: not one.cordoned)

    def _held(self, pool: str, leaving: int) -> str:
        """Return why a pool cannot do without one more node yet; empty where it can."""
        stay = (len(self._idle(pool)) - leaving) * self.plan.fleet.pool(pool).slots_per_node
        quota = _most(self.quotas, pool)
        granted = sum(grant.slots for grant in self.grants if grant.pool == pool)
        if quota > stay:
            return f"the quota of {pool} is {quota} slots, and its other nodes have {stay}"
        return f"{granted} slots of {pool} are granted, and its other nodes have {stay}" if granted > stay else ""

    # ---------------------------------------------------------------- counts

    def _count(self, pool: str) -> int:
        """Return the nodes that a pool has or will have when those that move have come."""
        return sum((node.moves_to or node.pool) == pool for node in self.nodes if node.ready or node.moves_to)

    def _wanted(self, pool: str) -> int:
        """Return the most nodes that the plan has from this hour until a node that moves now has come."""
        first = floor_hour(self.now)
        last = self.now + timedelta(minutes=self.plan.fleet.pool(pool).startup_minutes_p95)
        rows = self.plan.nodes.select("hour", "pool", "nodes").iter_rows()
        counts = {hour: nodes for hour, name, nodes in rows if name == pool and first <= hour <= last}
        if first not in counts:
            raise InputError("now", f"{self.now:%Y-%m-%dT%H:%MZ}", f"is outside the plan of {pool}: plan again")
        return max(counts.values())

    def _step(
        self,
        kind: StepKind,
        node: LayoutNode,
        pool: str,
        why: str,
        *,
        to: str = "",
        waits_for: str = "",
        held_by: tuple[str, ...] = (),
    ) -> Step:
        before = len(self._idle(pool))
        change = {StepKind.CORDON: -1, StepKind.UNCORDON: 1}.get(kind, 0)
        return Step(
            kind=kind,
            pool=pool,
            before=before,
            after=before if node.cordoned and change < 0 else before + change,
            why=f"{node.name} {why}",
            place=to or node.moves_to,
            nodes=(node.name,),
            waits_for=waits_for,
            held_by=held_by,
        )


def _most(quotas: Iterable[Quota], pool: str) -> int:
    """Return the most slots that the places of a pool may grant together."""
    groups: dict[str, list[Quota]] = {}
    for quota in quotas:
        if quota.pool == pool:
            groups.setdefault(quota.group, []).append(quota)
    return sum(max(sum(one.slots for one in group), sum(one.used for one in group)) for group in groups.values())


def _slots(count: int, slot: str) -> str:
    return f"{count} x {slot}"


def _of_pool(pool: Pool) -> str:
    return _slots(pool.slots_per_node, pool.slot)
