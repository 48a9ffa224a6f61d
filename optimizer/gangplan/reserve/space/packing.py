"""How a gang is packed on free nodes: best-fit, whole or not at all, and as close together as it asks to stand.

Nodes come as (free GPUs, node), the fullest first. A domain is so many nodes in a row: one, those of an NVLink domain,
those of a rack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from gangplan.types import Level, Pool

_MOST_TRIES = 2000
"""Steps that the search for one mixed gang may take, beside one for each pod, before it counts as not fitting."""

_OUTWARD = (Level.NODE, Level.NVLINK, Level.RACK)


class Slot(NamedTuple):
    """Pods of one pod set on one node of a pool."""

    node: int
    pod_set: int
    pods: int
    gpus: int


Slots: TypeAlias = tuple[Slot, ...]

Pods: TypeAlias = tuple[int, int, int]
"""GPUs per pod, pods, pod set."""

Nodes: TypeAlias = Iterable[tuple[int, int]]
"""(Free GPUs, node), the fullest first."""


class Shape(NamedTuple):
    """What of a request decides where it fits: (GPUs per pod, pods, pod set) largest first, and its topology."""

    pods: tuple[Pods, ...]
    level: Level | None
    required: bool
    gpus: int

    @property
    def must(self) -> Level | None:
        """The level that it must stand together in."""
        return self.level if self.required else None

    @property
    def least(self) -> int:
        """The fewest free GPUs that make a node of use to it."""
        return self.gpus if self.must is Level.NODE else self.pods[-1][0]

    @property
    def pod_count(self) -> int:
        """Its pods; so many nodes that are alike are as good as more."""
        return sum(count for _, count, _ in self.pods)

    def fits_in(self, nodes_with: list[int]) -> bool:
        """Tell, from how many nodes have 0, 1, 2... free GPUs, whether each pod set could fit by itself."""
        if self.must is Level.NODE:
            return any(nodes_with[self.gpus :])
        return all(
            sum(free // size * nodes for free, nodes in enumerate(nodes_with) if nodes) >= count
            for size, count, _ in self.pods
        )


def width_of(pool: Pool, level: Level) -> int:
    """Return how many nodes in a row are one domain of a level."""
    return {Level.NODE: 1, Level.NVLINK: pool.nodes_per_nvlink, Level.RACK: pool.nodes_per_rack}[level]


def widths_wished(pool: Pool, shape: Shape) -> list[int]:
    """Return the domains' widths to try, the wished level first; where it is preferred, the next ones outward too."""
    if shape.level is None:
        return []
    first = _OUTWARD.index(shape.level)
    levels = _OUTWARD[first : first + 1] if shape.required else _OUTWARD[first:]
    return list(dict.fromkeys(width_of(pool, level) for level in levels))


def ever_fits(pool: Pool, nodes: int, shape: Shape) -> bool:
    """Tell whether the gang fits on so many empty nodes of a pool."""
    most = width_of(pool, shape.must) if shape.must else shape.pod_count
    return fill(((pool.slots_per_node, node) for node in range(min(nodes, most))), shape) is not None


def place(nodes: Nodes, shape: Shape, pool: Pool) -> Slots | None:
    """Place the whole gang on nodes, in the fullest domain that fits where it wishes one, or not at all."""
    if shape.level is None:
        return fill(nodes, shape)
    there = list(nodes)
    anywhere = None if shape.required else fill(there, shape)
    if anywhere is None and not shape.required:
        return None
    for width in widths_wished(pool, shape):
        if slots := _fill_domain(there, shape, width):
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
    """Try the packings that best-fit does not come to (pods of 3 and 2 on nodes of 4 and 6), so many steps at most."""
    search = _Search(nodes, [(size, pod_set) for size, count, pod_set in shape.pods for _ in range(count)])
    if not search.run():
        return None
    together = Counter((node, pod_set, size) for node, (size, pod_set) in zip(search.on, search.pods, strict=True))
    return tuple(Slot(node, pod_set, count, count * size) for (node, pod_set, size), count in together.items())


class _Search:
    """Depth first over where each pod goes; nodes with as much free are alike, and no state is looked at twice."""

    def __init__(self, nodes: Nodes, pods: list[tuple[int, int]]) -> None:
        free = sorted(nodes, key=lambda one: (one[0], -one[1]))
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
        """Put the next pod on a node with so much free; return how much the one after it needs at least."""
        node = self._by_free[free].pop()
        self._by_free[free - self.pods[len(self.on)][0]].append(node)
        self.on.append(node)
        self._from.append(free)
        state = (len(self.on), *map(len, self._by_free))
        if state in self._seen:
            return len(self._by_free)  # it led to nothing: no node is good enough for the next
        self._seen.add(state)
        return self.pods[len(self.on)][0] if len(self.on) < len(self.pods) else 0

    def _take_back(self) -> int:
        """Take the last pod back; return what its node has free without it."""
        node, free = self.on.pop(), self._from.pop()
        self._by_free[free - self.pods[len(self.on)][0]].pop()
        self._by_free[free].append(node)
        return free
