"""A pool's capacity over time: what its nodes carry now, what is planned on them, and where a gang fits.

Times are whole microseconds (`moments`). A commitment holds GPUs of one node: a running one until its end, a planned
one from its start to its end. The planned calendar caps which nodes exist: node n is there while the calendar has more
than n nodes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from gangplan.reserve.moments import FOREVER
from gangplan.types import Level, Pool

_MOST_TRIES = 2000
"""Packings of one mixed gang that are tried before it counts as not fitting."""


class Slot(NamedTuple):
    """Pods of one pod set on one node of a pool."""

    node: int
    pod_set: int
    pods: int
    gpus: int


Slots: TypeAlias = tuple[Slot, ...]


class Shape(NamedTuple):
    """What of a request decides where it fits: (GPUs per pod, pods, pod set) largest first, and its topology."""

    pods: tuple[tuple[int, int, int], ...]
    level: Level | None
    required: bool
    gpus: int

    @property
    def least(self) -> int:
        """The GPUs of the smallest pod."""
        return self.pods[-1][0]


class Steps:
    """A pool's planned node count over time, as steps; before the first there is none, after the last it goes on."""

    def __init__(self, steps: Iterable[tuple[int, int]]) -> None:
        pairs = sorted(steps)
        self.times = [at for at, _ in pairs]
        self.nodes = [count for _, count in pairs]
        self.most = max(self.nodes, default=0)

    def least(self, start: int, end: int) -> int:
        """Return the fewest nodes that there are at any time from `start` up to `end`."""
        first = bisect_right(self.times, start) - 1
        if first < 0:
            return 0
        return min(self.nodes[first : max(first + 1, bisect_left(self.times, end))])

    def at(self, moment: int) -> int:
        """Return the nodes at one moment."""
        return self.least(moment, moment)


class Board:
    """The commitments of one pool, kept so that a full pool says no in constant time."""

    def __init__(self, pool: Pool, steps: Steps) -> None:
        self.pool = pool
        self.steps = steps
        self.size = max(steps.most, 1)
        self.whole = pool.slots_per_node
        self.free = [self.whole] * self.size  # GPUs that no running gang holds, by node
        self.by_free: list[list[int]] = [[] for _ in range(self.whole + 1)]  # nodes with so many free, ascending
        self.by_free[self.whole] = list(range(self.size))
        self.running: list[list[tuple[int, int, str]]] = [[] for _ in range(self.size)]  # (end, gpus, holder)
        self.planned: dict[int, list[tuple[int, int, int, str]]] = {}  # node: (start, end, gpus, holder)
        self.ends: list[tuple[int, int, int, str]] = []  # (end, node, gpus, holder) of all that runs, ascending
        self.plan_ends: list[int] = []  # ends of all that is planned, ascending

    # ------------------------------------------------------------ commitments

    def hold(self, holder: str, slots: Slots, end: int) -> None:
        """Let a gang run on its slots until `end`."""
        for slot in slots:
            self._grow(slot.node)
            self.running[slot.node].append((end, slot.gpus, holder))
            insort(self.ends, (end, slot.node, slot.gpus, holder))
            self._move(slot.node, -slot.gpus)

    def drop(self, holder: str, slots: Slots, end: int) -> None:
        """Take a running gang off its slots."""
        for slot in slots:
            self.running[slot.node].remove((end, slot.gpus, holder))
            del self.ends[bisect_left(self.ends, (end, slot.node, slot.gpus, holder))]
            self._move(slot.node, slot.gpus)

    def plan(self, holder: str, slots: Slots, start: int, end: int) -> None:
        """Promise the slots from `start` to `end`."""
        for slot in slots:
            self.planned.setdefault(slot.node, []).append((start, end, slot.gpus, holder))
            insort(self.plan_ends, end)

    def unplan(self, holder: str, slots: Slots, start: int, end: int) -> None:
        """Take a promise back."""
        for slot in slots:
            there = self.planned[slot.node]
            there.remove((start, end, slot.gpus, holder))
            if not there:
                del self.planned[slot.node]
            del self.plan_ends[bisect_left(self.plan_ends, end)]

    def _grow(self, node: int) -> None:
        """Make room for a node that the calendar no longer has but a gang still runs on."""
        while node >= self.size:
            self.free.append(self.whole)
            self.running.append([])
            self.by_free[self.whole].append(self.size)
            self.size += 1

    def _move(self, node: int, gpus: int) -> None:
        """Change a node's free GPUs and keep `by_free` in step."""
        old = self.free[node]
        new = self.free[node] = old + gpus
        from_list, to_list = self.by_free[max(0, old)], self.by_free[max(0, new)]
        if from_list is not to_list:
            del from_list[bisect_left(from_list, node)]
            insort(to_list, node)

    # ------------------------------------------------------------ what is free

    def free_over(self, node: int, start: int, end: int) -> int:
        """Return the GPUs of a node that stay free from `start` up to `end`."""
        free = self.whole - self._used(node, start)
        for since, _, _, _ in self.planned.get(node, ()):
            if start < since < end:
                free = min(free, self.whole - self._used(node, since))
        return free

    def _used(self, node: int, moment: int) -> int:
        """Return the GPUs of a node that are held or promised at one moment."""
        used = 0
        for until, gpus, _ in self.running[node]:
            if until > moment:
                used += gpus
        for since, until, gpus, _ in self.planned.get(node, ()):
            if since <= moment < until:
                used += gpus
        return used

    def free_now(self, limit: int) -> int:
        """Return the GPUs that no running gang holds, on nodes below `limit`."""
        return sum(free * bisect_left(nodes, limit) for free, nodes in enumerate(self.by_free))

    # ------------------------------------------------------------ where a gang fits

    def fit_now(self, shape: Shape, now: int, end: int) -> Slots | None:
        """Return slots that are free from now up to `end`, best-fit, or None."""
        limit = self.steps.least(now, end)
        if not self._may_fit(shape, limit):
            return None
        return _place(self._ascending_now(now, end, limit, shape.least), shape, self.pool.nodes_per_rack)

    def _may_fit(self, shape: Shape, limit: int) -> bool:
        """Tell, from counts alone, whether each pod set could fit by itself."""
        for size, count, _ in shape.pods:
            pods = 0
            for free in range(size, self.whole + 1):
                nodes = self.by_free[free]
                if nodes and nodes[0] < limit:
                    pods += free // size * len(nodes)
            if pods < count:
                return False
        return True

    def _ascending_now(self, now: int, end: int, limit: int, least: int) -> Iterator[tuple[int, int]]:
        """Yield (free GPUs, node) of the nodes that stay free until `end`, the fullest first."""
        for free in range(least, self.whole + 1):
            for node in self.by_free[free]:
                if node >= limit:
                    break
                if node not in self.planned:
                    yield free, node
                elif (stays := self.free_over(node, now, end)) >= least:
                    yield stays, node

    def is_free(self, slots: Slots, start: int, end: int) -> bool:
        """Tell whether exactly these slots are free from `start` up to `end`."""
        limit = self.steps.least(start, end)
        needs: dict[int, int] = {}
        for slot in slots:
            needs[slot.node] = needs.get(slot.node, 0) + slot.gpus
        return all(node < limit and self.free_over(node, start, end) >= gpus for node, gpus in needs.items())

    def earliest(
        self, shape: Shape, length: int, after: int, until: int = FOREVER, tries: int = FOREVER
    ) -> tuple[int, Slots] | None:
        """Return the first start from `after` to `until` at which the gang fits for `length`, and its slots.

        One sweep over the moments at which something changes: counts alone rule most of them out; of the others, the
        first `tries` are looked at node by node.
        """
        if after > until or self.steps.most * self.whole < shape.gpus:
            return None
        free = list(self.free)
        size, count, _ = shape.pods[0]
        # pods of the largest size that fit at the moment looked at
        pods = sum(gpus // size * len(nodes) for gpus, nodes in enumerate(self.by_free))
        for moment, node, gpus in self._changes(after, until):
            if node < self.size:
                old = max(0, free[node]) // size
                free[node] += gpus
                pods += max(0, free[node]) // size - old
            elif pods >= count:
                if slots := self._fit_at(shape, free, moment, moment + length):
                    return moment, slots
                tries -= 1
                if not tries:
                    break
        return None

    def _changes(self, after: int, until: int) -> list[tuple[int, int, int]]:
        """Return how free GPUs change as (moment, node, GPUs), and behind each moment to try a (moment, size, 0)."""
        changes = [(max(end, after), node, gpus) for end, node, gpus, _ in self.ends if end <= until]
        for node, plans in self.planned.items():
            for start, end, gpus, _ in plans:
                if start <= until and end > after:
                    changes.append((max(start, after), node, -gpus))
                    changes.append((end, node, gpus))
        tries = {after, *(moment for moment, _, gpus in changes if gpus > 0 and moment <= until)}
        tries.update(moment for moment in self.steps.times if after < moment <= until)
        changes.extend((moment, self.size, 0) for moment in tries)
        changes.sort()
        return changes

    def _fit_at(self, shape: Shape, free: list[int], start: int, end: int) -> Slots | None:
        """Return slots that stay free from `start` to `end`, best-fit; `free` is what each node has at `start`."""
        limit, least = min(self.steps.least(start, end), self.size), shape.least
        found = [(free[node], node) for node in range(limit) if free[node] >= least]
        if self.planned:
            found = [(self._stays(node, gpus, start, end), node) for gpus, node in found]
        found = sorted(one for one in found if one[0] >= least)
        if sum(gpus for gpus, _ in found) < shape.gpus:
            return None
        return _place(iter(found), shape, self.pool.nodes_per_rack)

    def _stays(self, node: int, free: int, start: int, end: int) -> int:
        """Return how many of a node's free GPUs stay free, given those at `start`."""
        for since, _, _, _ in self.planned.get(node, ()):
            if start < since < end:
                free = min(free, self.whole - self._used(node, since))
        return free


def ever_fits(pool: Pool, nodes: int, shape: Shape) -> bool:
    """Tell whether the gang fits on so many empty nodes of a pool."""
    empty = ((pool.slots_per_node, node) for node in range(nodes))
    return _place(empty, shape, pool.nodes_per_rack) is not None


def _place(nodes: Iterator[tuple[int, int]], shape: Shape, nodes_per_rack: int) -> Slots | None:
    """Place the whole gang on nodes that come fullest first, in one rack when that is asked, or not at all."""
    if not (shape.level and shape.required):
        return _fill(nodes, shape)
    racks: dict[int, list[tuple[int, int]]] = {}
    for free, node in nodes:
        racks.setdefault(node // nodes_per_rack, []).append((free, node))
    for _, rack in sorted((sum(free for free, _ in members), rack) for rack, members in racks.items()):
        if slots := _fill(iter(racks[rack]), shape):
            return slots
    return None


def _fill(nodes: Iterator[tuple[int, int]], shape: Shape) -> Slots | None:
    """Fill nodes with the pods, the largest pods first; None when some pod is left over."""
    if len(shape.pods) == 1:
        return _fill_one(nodes, shape.pods[0])
    there = sorted(nodes)
    if sum(free for free, _ in there) < shape.gpus:
        return None
    left = {node: free for free, node in there}
    slots: list[Slot] = []
    for pods in shape.pods:
        placed = _fill_one(iter(sorted((free, node) for node, free in left.items() if free >= pods[0])), pods)
        if placed is None:
            return _search(there, shape)
        for slot in placed:
            left[slot.node] -= slot.gpus
        slots.extend(placed)
    return tuple(slots)


def _search(nodes: list[tuple[int, int]], shape: Shape) -> Slots | None:
    """Try the packings that best-fit does not come to (pods of 3 and 2 on nodes of 4 and 6), so many at most."""
    free = [gpus for gpus, _ in nodes]
    pods = [(size, pod_set) for size, count, pod_set in shape.pods for _ in range(count)]
    chosen: list[int] = []
    tries = _MOST_TRIES

    def put(index: int) -> bool:
        nonlocal tries
        if index == len(pods):
            return True
        size = pods[index][0]
        seen: set[int] = set()
        for at, there in enumerate(free):
            if there < size or there in seen:
                continue
            seen.add(there)
            tries -= 1
            if tries < 0:
                return False
            free[at] -= size
            chosen.append(at)
            if put(index + 1):
                return True
            chosen.pop()
            free[at] += size
        return False

    if not put(0):
        return None
    together = Counter((nodes[at][1], pod_set, size) for at, (size, pod_set) in zip(chosen, pods, strict=True))
    return tuple(Slot(node, pod_set, count, count * size) for (node, pod_set, size), count in together.items())


def _fill_one(nodes: Iterator[tuple[int, int]], pods: tuple[int, int, int]) -> Slots | None:
    """Fill nodes with pods of one size."""
    size, count, pod_set = pods
    slots: list[Slot] = []
    for free, node in nodes:
        here = min(count, free // size)
        if here:
            slots.append(Slot(node, pod_set, here, here * size))
            count -= here
            if not count:
                return tuple(slots)
    return None
