"""How a gang is packed on free nodes: best-fit, all pods or none, and within one domain where it wishes that.

Nodes come as (free slots, node), the fullest first. A domain is a fixed number of nodes in a row, its width: one node,
the nodes of an NVLink domain, or those of a rack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from gangplan.types import Level, Pool

_MOST_TRIES = 2000
"""Steps that the search for one mixed gang may take, beside one for each pod, before it counts as not fitting.

A larger number finds more packings of mixed gangs on nearly full nodes, and makes a miss slower.
"""

_OUTWARD = (Level.NODE, Level.NVLINK, Level.RACK)


class Slot(NamedTuple):
    """Pods of one pod set on one node of a pool."""

    node: int
    pod_set: int
    pods: int
    gpus: int


Slots: TypeAlias = tuple[Slot, ...]

Pods: TypeAlias = tuple[int, int, int]
"""Slots per pod, number of pods, index of the pod set."""

Nodes: TypeAlias = Iterable[tuple[int, int]]
"""(Free slots, node), the fullest first."""


class Shape(NamedTuple):
    """The part of a request that decides where it fits: its pods, the largest first, and its topology."""

    pods: tuple[Pods, ...]
    level: Level | None
    required: bool
    gpus: int

    @property
    def must(self) -> Level | None:
        """The level of the domain that all its pods must share; None: they may be anywhere."""
        return self.level if self.required else None

    @property
    def least(self) -> int:
        """The fewest free slots that make a node of use to it."""
        return self.gpus if self.must is Level.NODE else self.pods[-1][0]

    @property
    def pod_count(self) -> int:
        """The number of its pods, and so of the nodes that it can use."""
        return sum(count for _, count, _ in self.pods)

    def fits_in(self, nodes_with: list[int]) -> bool:
        """Tell whether each pod set could fit by itself, from how many nodes have 0, 1, 2... free slots."""
        if self.must is Level.NODE:
            return any(nodes_with[self.gpus :])
        return all(
            sum(free // size * nodes for free, nodes in enumerate(nodes_with) if nodes) >= count
            for size, count, _ in self.pods
        )


def width_of(pool: Pool, level: Level) -> int:
    """Return the width of a level's domains, in nodes."""
    return {Level.NODE: 1, Level.NVLINK: pool.nodes_per_nvlink, Level.RACK: pool.nodes_per_rack}[level]


def widths_wished(pool: Pool, shape: Shape) -> list[int]:
    """Return the widths of domains to try: the wished level's and, where that is only preferred, the wider ones."""
    if shape.level is None:
        return []
    first = _OUTWARD.index(shape.level)
    levels = _OUTWARD[first : first + 1] if shape.required else _OUTWARD[first:]
    return list(dict.fromkeys(width_of(pool, level) for level in levels))


def ever_fits(pool: Pool, nodes: int, shape: Shape) -> bool:
    """Tell whether the gang fits on this number of empty nodes of a pool."""
    most = width_of(pool, shape.must) if shape.must else shape.pod_count
    return fill(((pool.slots_per_node, node) for node in range(min(nodes, most))), shape) is not None


def place(nodes: Nodes, shape: Shape, pool: Pool) -> Slots | None:
    """Place the whole gang on nodes, where it wishes a domain in the fullest one that has room, or return None."""
    if shape.level is None:
        return fill(nodes, shape)
    candidates = list(nodes)
    anywhere = None if shape.required else fill(candidates, shape)
    if anywhere is None and not shape.required:
        return None
    for width in widths_wished(pool, shape):
        if slots := _fill_domain(candidates, shape, width):
            return slots
    return anywhere


def _fill_domain(nodes: Nodes, shape: Shape, width: int) -> Slots | None:
    """Place the whole gang in the fullest domain that has room for it."""
    domains: dict[int, list[tuple[int, int]]] = {}
    for free, node in nodes:
        domains.setdefault(node // width, []).append((free, node))
    for _, domain in sorted((sum(free for free, _ in members), domain) for domain, members in domains.items()):
        if slots := fill(domains[domain], shape):
            return slots
    return None


def fill(nodes: Nodes, shape: Shape) -> Slots | None:
    """Fill nodes with the pods, the largest pods first; None when some pod is left over."""
    if len(shape.pods) == 1:
        return _fill_one(iter(nodes), shape.pods[0])
    ascending = sorted(nodes)
    if sum(free for free, _ in ascending) < shape.gpus:
        return None
    left = {node: free for free, node in ascending}
    slots: list[Slot] = []
    for pods in shape.pods:
        placed = _fill_one(iter(sorted((free, node) for node, free in left.items() if free >= pods[0])), pods)
        if placed is None:
            return _search(ascending, shape)
        for slot in placed:
            left[slot.node] -= slot.gpus
        slots.extend(placed)
    return tuple(slots)


def _fill_one(nodes: Iterator[tuple[int, int]], pods: Pods) -> Slots | None:
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


def _search(nodes: Nodes, shape: Shape) -> Slots | None:
    """Search for packings that best-fit misses, such as pods of 3 and 2 on nodes of 4 and 6."""
    search = _Search(nodes, [(size, pod_set) for size, count, pod_set in shape.pods for _ in range(count)])
    if not search.run():
        return None
    together = Counter((node, pod_set, size) for node, (size, pod_set) in zip(search.on, search.pods, strict=True))
    return tuple(Slot(node, pod_set, count, count * size) for (node, pod_set, size), count in together.items())


class _Search:
    """Depth-first search over the node of each pod; nodes with as many free slots are alike, no state comes twice."""

    def __init__(self, nodes: Nodes, pods: list[tuple[int, int]]) -> None:
        free = sorted(nodes, key=lambda item: (item[0], -item[1]))
        self.pods = pods
        self.on: list[int] = []  # the node of each pod that is put
        self._from: list[int] = []  # what that node had free before
        self._by_free: list[list[int]] = [[] for _ in range(free[-1][0] + 1)]
        for gpus, node in free:
            self._by_free[gpus].append(node)
        self._seen: set[tuple[int, ...]] = set()

    def run(self) -> bool:
        """Put all pods on nodes, or give up."""
        least = self.pods[0][0]
        for _ in range(_MOST_TRIES + len(self.pods)):
            free = next((gpus for gpus in range(least, len(self._by_free)) if self._by_free[gpus]), None)
            if free is not None:
                least = self._put(free)
            elif self.on:
                least = self._take_back() + 1
            else:
                return False
            if len(self.on) == len(self.pods):
                return True
        return False

    def _put(self, free: int) -> int:
        """Put the next pod on a node with `free` slots; return how many the pod after it needs at least."""
        node = self._by_free[free].pop()
        self._by_free[free - self.pods[len(self.on)][0]].append(node)
        self.on.append(node)
        self._from.append(free)
        state = (len(self.on), *map(len, self._by_free))
        if state in self._seen:
            return len(self._by_free)  # this state led to nothing before: let no node do for the next pod
        self._seen.add(state)
        return self.pods[len(self.on)][0] if len(self.on) < len(self.pods) else 0

    def _take_back(self) -> int:
        """Take the last pod back; return the free slots that its node has without it."""
        node, free = self.on.pop(), self._from.pop()
        self._by_free[free - self.pods[len(self.on)][0]].pop()
        self._by_free[free].append(node)
        return free
