"""Quotas of pools on Kueue: where they stand, how much of each is used, and which are nobody's in targets.yaml."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from gangplan.errors import InputError
from gangplan.execute.kubernetes.flavors import flavor_of, resource_of
from gangplan.execute.kubernetes.seen import COHORT, QUEUE, Cell, SeenPlace
from gangplan.execute.kubernetes.snapshot import Reading
from gangplan.types import Quota


@dataclass(frozen=True, kw_only=True)
class PoolQuota:
    """One place of a pool's quota: the object that is written, and what stands beneath it and counts with it."""

    pool: str
    place: SeenPlace
    flavor: str
    resource: str
    group: str
    weight: float
    beneath: tuple[SeenPlace, ...] = ()
    keeps: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Its flavor and resource."""
        return self.flavor, self.resource

    @property
    def cell(self) -> Cell:
        """The quota that is written."""
        found = self.place.cells.get(self.key)
        if found is None:
            remedy = f"has no quota of {self.resource} of {self.flavor}: add it, with 0 at first"
            raise InputError(f"pools[{self.pool}].quota", self.place.shown, remedy)
        return found

    @property
    def of_others(self) -> int:
        """What the places beneath have as their own."""
        return sum(place.cells[self.key].slots for place in self.beneath if self.key in place.cells)

    @property
    def slots(self) -> int:
        """What the place and all beneath it may grant together."""
        return self.cell.slots + self.of_others

    def quota(self, used: Mapping[tuple[str, str], int]) -> Quota:
        """Return it as a value; what is used is what Kueue says, or what its Workloads say if that is more."""
        queues = [place for place in (self.place, *self.beneath) if place.kind == QUEUE]
        key = self.key
        return Quota(
            pool=self.pool,
            place=self.place.shown,
            group=self.group,
            slots=self.slots,
            used=sum(max(queue.reserved.get(key, 0), used.get((queue.name, self.flavor), 0)) for queue in queues),
            weight=self.weight,
            keeps=self.keeps,
            changed_at=max((each.changed_at for each in (self.place, *self.beneath) if each.changed_at), default=None),
        )


@dataclass(frozen=True, slots=True)
class _Tree:
    """A place with all that is beneath it, the group that it lends to, and the resources of its flavors."""

    top: SeenPlace
    beneath: tuple[SeenPlace, ...]
    group: str
    resources: Mapping[str, set[str]]


class Quotas:
    """The quotas of one reading."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._queues, self._cohorts = reading.snapshot.queues, reading.snapshot.cohorts
        self._of: dict[str, list[PoolQuota]] = {}
        self._trees: dict[str, _Tree] = {}

    def as_values(self, pool: str) -> tuple[Quota, ...]:
        """Return the quotas of a pool.

        Raises InputError for a queue or cohort that is not there, and where no or no one flavor is a pool's.
        """
        return tuple(each.quota(self._used) for each in self.of(pool))

    def of(self, pool: str) -> list[PoolQuota]:
        """Return the places of a pool's quota."""
        if pool not in self._of:
            self._of[pool] = self._found(pool)
        return self._of[pool]

    def strangers(self, pool: str) -> list[tuple[SeenPlace, int]]:
        """Return the places that may grant a pool's slots, too, though targets.yaml does not name them, and how many.

        Their slots stand on the same nodes: with them, more is granted than there is.
        """
        own = self.of(pool)
        key = own[0].key
        names = {place.shown for each in own for place in (each.place, *each.beneath)}
        there = [place for place in self._by_key[key] if place.shown not in names and place.cells[key].slots]
        return sorted(((place, place.cells[key].slots) for place in there), key=lambda each: each[0].shown)

    def _found(self, pool: str) -> list[PoolQuota]:
        settings = self._reading.pools.quotas[pool]
        weights = dict(settings.queues) or {settings.cohort: 1.0}
        trees = [self._tree(self._place(pool, name)) for name in weights]
        flavor = flavor_of(self._reading, pool, {flavor for tree in trees for flavor in tree.resources})
        resources = {each for tree in trees for each in tree.resources.get(flavor, ())}
        resource = resource_of(self._reading.pools.fleet.pool(pool), resources)
        return [
            PoolQuota(
                pool=pool,
                place=tree.top,
                flavor=flavor,
                resource=resource,
                group=tree.group,
                weight=weights[tree.top.name],
                beneath=tree.beneath,
                keeps=tree.group not in self._reclaiming,
            )
            for tree in trees
        ]

    def _tree(self, top: SeenPlace) -> _Tree:
        """Return a place with all that is beneath it; many pools may stand in one cohort."""
        if top.shown not in self._trees:
            beneath = self._beneath(top)
            resources: dict[str, set[str]] = defaultdict(set)
            for place in (top, *beneath):
                for flavor, resource in place.cells:
                    resources[flavor].add(resource)
            self._trees[top.shown] = _Tree(top, beneath, self._root(top), dict(resources))
        return self._trees[top.shown]

    def _place(self, pool: str, name: str) -> SeenPlace:
        settings = self._reading.pools.quotas[pool]
        there = self._cohorts if settings.cohort else self._queues
        if name not in there:
            kind = COHORT if settings.cohort else QUEUE
            raise InputError.unknown(f"pools[{pool}].quota", name, f"no {kind} of the cluster", sorted(there))
        return there[name]

    def _beneath(self, place: SeenPlace) -> tuple[SeenPlace, ...]:
        """Return all queues and cohorts beneath a cohort."""
        if place.kind == QUEUE:
            return ()
        found: list[SeenPlace] = []
        waiting, seen = [place.name], {place.name}
        while waiting:
            for child in self._children[waiting.pop()]:
                found.append(child)
                if child.kind == COHORT and child.name not in seen:  # a circle of cohorts is Kueue's to refuse
                    seen.add(child.name)
                    waiting.append(child.name)
        return tuple(found)

    def _root(self, place: SeenPlace) -> str:
        """Return the group that a place lends to: its topmost cohort, or itself where it is in none."""
        top, seen = place.name if place.kind == COHORT else place.parent, set[str]()
        while top in self._cohorts and self._cohorts[top].parent and top not in seen:
            seen.add(top)
            top = self._cohorts[top].parent
        return f"{COHORT}/{top}" if top else place.shown

    @cached_property
    def _reclaiming(self) -> frozenset[str]:
        """The groups in which a queue takes back what others have above their quota."""
        return frozenset(self._root(queue) for queue in self._queues.values() if queue.reclaims)

    @cached_property
    def _children(self) -> Mapping[str, list[SeenPlace]]:
        found: dict[str, list[SeenPlace]] = defaultdict(list)
        for place in (*self._queues.values(), *self._cohorts.values()):
            if place.parent:
                found[place.parent].append(place)
        return found

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str], list[SeenPlace]]:
        found: dict[tuple[str, str], list[SeenPlace]] = defaultdict(list)
        for place in (*self._queues.values(), *self._cohorts.values()):
            for key in place.cells:
                found[key].append(place)
        return found

    @cached_property
    def _used(self) -> Mapping[tuple[str, str], int]:
        """What the Workloads of each queue hold of each flavor."""
        used: dict[tuple[str, str], int] = defaultdict(int)
        for workload in self._reading.snapshot.workloads.values():
            for given in workload.given:
                used[workload.queue, given.flavor] += given.slots
        return used
