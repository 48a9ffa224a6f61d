"""A cloud as a target: each step is held against the group as it is now, then written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from gangplan.clock import Clock
from gangplan.errors import ConflictError, GangplanError, InputError, RejectedError
from gangplan.execute.cloud.groups import Cloud, Group, Machine
from gangplan.types import Fleet, Observation, PoolNode, PoolNodes, Step, StepKind

Joined: TypeAlias = Callable[[str], Mapping[str, PoolNode]]
"""Returns a pool's nodes as its cluster has them, by the ids of their machines (`machine_of`)."""

_CORDONS = frozenset({StepKind.CORDON, StepKind.UNCORDON})


def machine_of(provider_id: str) -> str:
    """Return the machine's id in a node's `spec.providerID`: of aws:///us-east-1a/i-0a it is i-0a."""
    return provider_id.rpartition("/")[2]


class GroupTarget:
    """The groups of one cloud. With `joined`, machines are nodes of a cluster: it says which of them can be used.

    Such nodes have the cluster's names, and the cluster cordons them. Else machines go by their ids, and a tag on the
    machine says since when it is cordoned.
    """

    def __init__(
        self, name: str, clouds: Sequence[Cloud], fleet: Fleet, *, clock: Clock, joined: Joined | None = None
    ) -> None:
        self.name = name
        self.kinds = frozenset({StepKind.PROTECT, StepKind.ORDER, StepKind.REMOVE})
        self._clouds, self._fleet, self._clock, self._joined = clouds, fleet, clock, joined
        if joined is None:
            self.kinds |= _CORDONS

    def observe(self) -> Observation:
        """Return each pool's machines, and how many its group was told to have."""
        read = [cloud.read(cloud.pools(), cordons=self._joined is None) for cloud in self._clouds if cloud.pools()]
        return Observation(nodes=tuple(self._pool_nodes(pool, group) for each in read for pool, group in each.items()))

    def _of(self, pool: str) -> Cloud:
        """Return who has the pool's group, or refuse the pool."""
        for cloud in self._clouds:
            if pool in cloud.pools():
                return cloud
        known = sorted(pool for cloud in self._clouds for pool in cloud.pools())
        raise InputError.unknown("pool", pool, f"no pool on {self.name}", known)

    def _pool_nodes(self, pool: str, group: Group) -> PoolNodes:
        nodes = self._nodes(pool, group)
        outside = [machine.id for machine in group.staying if machine.usable and nodes[machine.id].closed]
        return PoolNodes(
            pool=pool,
            ordered=group.ordered,
            nodes=tuple(nodes[machine.id] for machine in group.machines),
            unprotected=tuple(nodes[machine.id].name for machine in group.staying if not machine.guarded),
            irrevocable=group.irrevocable,
            trouble=group.trouble or (f"{', '.join(outside)} run, but are no nodes of the cluster" if outside else ""),
        )

    def _nodes(self, pool: str, group: Group) -> dict[str, PoolNode]:
        """Return the group's nodes by the ids of their machines; one that has not joined its cluster is not usable."""
        if self._joined is None:
            return {machine.id: _node(machine) for machine in group.machines}
        joined = self._joined(pool)
        return {machine.id: _joined_node(machine, joined.get(machine.id)) for machine in group.machines}

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take one step; see `Target.apply`."""
        group = self._of(step.pool).read([step.pool], cordons=self._joined is None)[step.pool]
        match step.kind:
            case StepKind.ORDER:
                self._order(step, group, dry_run)
            case StepKind.REMOVE:
                self._remove(step, group, dry_run)
            case StepKind.PROTECT:
                chosen = [m.id for m in self._named(step, group) if not m.guarded]
                if chosen and not dry_run:
                    self._of(step.pool).guard(step.pool, chosen)
            case StepKind.CORDON | StepKind.UNCORDON if self._joined is None:
                self._cordon(step, group, dry_run)
            case _:
                raise RejectedError(f"{self.name} takes no step of kind {step.kind}")

    def _named(self, step: Step, group: Group) -> list[Machine]:
        """Return the machines that the step names and that stay."""
        nodes = self._nodes(step.pool, group)
        return [machine for machine in group.staying if nodes[machine.id].name in step.nodes]

    def _order(self, step: Step, group: Group, dry_run: bool) -> None:
        if group.ordered == step.after:
            return
        _require_before(step, group)
        if step.after < group.ordered:
            raise RejectedError(f"{step.pool}: an order never lowers, {group.shown} has {group.ordered}")
        most = min(group.most, self._fleet.pool(step.pool).max_nodes)
        if step.after > most:
            whose = group.shown if most == group.most else "the fleet's pool"
            raise RejectedError(f"{step.pool}: {step.after} nodes are more than the {most} that {whose} may have")
        if not dry_run:
            self._of(step.pool).order(step.pool, group, step.after)

    def _remove(self, step: Step, group: Group, dry_run: bool) -> None:
        """Remove the named machines that are still there, then withdraw what was ordered and never came."""
        chosen = self._named(step, group)
        if not chosen and group.ordered <= step.after:
            return
        _require_before(step, group)
        nodes = self._nodes(step.pool, group)
        if opened := [nodes[machine.id].name for machine in chosen if nodes[machine.id].cordoned_at is None]:
            raise ConflictError(f"{step.pool}: {', '.join(opened)}: no longer cordoned, so it may have work")
        if step.after < group.least:
            raise RejectedError(f"{step.pool}: {group.shown} must have {group.least} machines: lower its minimum")
        kept = replace(group, ordered=group.ordered - len(chosen))
        left = [machine for machine in group.staying if machine not in chosen]
        withdrawn = kept.ordered > step.after
        if withdrawn and (len(left) > step.after or not all(machine.guarded for machine in left)):
            raise ConflictError(f"{step.pool}: the cloud would choose which of {len(left)} machines to remove")
        if dry_run:
            return
        if chosen:
            self._of(step.pool).remove(step.pool, [machine.id for machine in chosen])
        if withdrawn:
            self._of(step.pool).order(step.pool, kept, step.after)

    def _cordon(self, step: Step, group: Group, dry_run: bool) -> None:
        on = step.kind == StepKind.CORDON
        chosen = [machine.id for machine in self._named(step, group) if (machine.cordoned_at is None) == on]
        if chosen and not dry_run:
            self._of(step.pool).cordon(step.pool, chosen, self._clock() if on else None)

    def check(self) -> tuple[str, ...]:
        """Return what is wrong with each pool's group, or that it cannot be read."""
        found: list[str] = []
        for name in [pool for cloud in self._clouds for pool in cloud.pools()]:
            pool = self._fleet.pool(name)
            try:
                said = self._of(name).check(name, least=pool.min_nodes, most=pool.max_nodes)
            except GangplanError as error:
                said = (str(error),)
            found += [f"{name}: {words}" for words in said]
        return tuple(found)

    def close(self) -> None:
        """Give back connections."""
        for cloud in self._clouds:
            cloud.close()


def _require_before(step: Step, group: Group) -> None:
    """Refuse a step that was made from another number than the group has now."""
    if group.ordered != step.before:
        raise ConflictError(f"{step.pool}: {group.shown} was told {group.ordered} machines, not {step.before}")


def _node(machine: Machine) -> PoolNode:
    return PoolNode(
        name=machine.id,
        usable=machine.usable,
        cordoned_at=machine.cordoned_at,
        closed=machine.closed,
        leaving=machine.leaving,
    )


def _joined_node(machine: Machine, node: PoolNode | None) -> PoolNode:
    """Return the node that a machine is in its cluster: to be usable, both must say so.

    A machine that has not joined is closed, since the cluster could not cordon it.
    """
    if node is None:
        return PoolNode(name=machine.id, usable=False, closed=True, leaving=machine.leaving)
    return replace(
        node,
        usable=node.usable and machine.usable,
        closed=node.closed or machine.closed,
        leaving=node.leaving or machine.leaving,
    )
