"""What waits, in the order in which it is served: points, then the tenant's share, then arrival.

Points are priority plus age, and never change between two requests. A tenant's share is its dominant one over its
weight, and grows with each of its gangs that is served before the next is chosen (progressive filling).

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TypeAlias

from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.admission.occupancy import Occupancy

Alike: TypeAlias = tuple[int, int]
"""What the gangs of one tenant, alike but for their arrival, have in common: kind and walltime."""

SamePoints: TypeAlias = dict[str, dict[Alike, list[tuple[int, Entry]]]]
"""The entries of the same points by tenant and likeness, in order of arrival."""


class Line:
    """The entries that wait, by points, tenant and likeness."""

    def __init__(self) -> None:
        self._levels: dict[int, SamePoints] = {}
        self._points: list[int] = []

    def add(self, entry: Entry) -> None:
        """Let an entry wait."""
        if entry.points not in self._levels:
            self._levels[entry.points] = {}
            insort(self._points, entry.points)
        groups = self._levels[entry.points].setdefault(entry.request.tenant, {})
        insort(groups.setdefault(_alike(entry), []), (entry.arrival, entry))

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        level = self._levels[entry.points]
        groups = level[entry.request.tenant]
        group = groups[_alike(entry)]
        del group[bisect_left(group, (entry.arrival,))]
        if not group:
            del groups[_alike(entry)]
        if not groups:
            del level[entry.request.tenant]
        if not level:
            del self._levels[entry.points]
            del self._points[bisect_left(self._points, entry.points)]

    def levels(self) -> Iterator[SamePoints]:
        """Yield each level of points, the first to be served first; not a copy, so it follows the line's changes."""
        for points in list(self._points):
            if points in self._levels:
                yield self._levels[points]


def _alike(entry: Entry) -> Alike:
    return entry.kind, entry.limit


class Walk:
    """One walk along a line: each entry is served before the next is chosen; entries may leave the line meanwhile.

    A tenant starts with the share that it holds in `occupancy`. `counts` tells, after an entry was served, whether it
    adds its part to its tenant's share.
    """

    def __init__(self, line: Line, occupancy: Occupancy, counts: Callable[[Entry], bool]) -> None:
        self._line = line
        self._occupancy = occupancy
        self._counts = counts
        self._shares: dict[str, float] = {}
        self._passed: set[tuple[int, str, Alike]] = set()

    def __iter__(self) -> Iterator[tuple[Entry, float]]:
        """Yield each entry with its tenant's share when its turn comes."""
        for level in self._line.levels():
            yield from self._level(level)

    def pass_over(self, entry: Entry) -> None:
        """Skip all that come behind an entry and are like it."""
        self._passed.add((entry.points, entry.request.tenant, _alike(entry)))

    def _level(self, level: SamePoints) -> Iterator[tuple[Entry, float]]:
        """Yield the entries of one level: always the oldest of the tenant with the least share."""
        heads = {tenant: [(group[0][0], alike) for alike, group in groups.items()] for tenant, groups in level.items()}
        for heap in heads.values():
            heapify(heap)
        order = [(self._of(tenant), heap[0][0], tenant) for tenant, heap in heads.items()]
        heapify(order)
        while order:
            share, arrival, tenant = heappop(order)
            heap = heads[tenant]
            alike = heap[0][1]
            group = level.get(tenant, {}).get(alike, [])
            at = bisect_left(group, (arrival,))
            if at < len(group) and group[at][0] == arrival:  # else it has left the line meanwhile
                entry = group[at][1]
                yield entry, share
                if self._counts(entry):
                    self._shares[tenant] = share + self._occupancy.part(entry)
                at = bisect_left(group, (arrival + 1,))
            if at < len(group) and (group[at][1].points, tenant, alike) not in self._passed:
                heapreplace(heap, (group[at][0], alike))
            else:
                heappop(heap)
            if heap:
                heappush(order, (self._shares[tenant], heap[0][0], tenant))

    def _of(self, tenant: str) -> float:
        if tenant not in self._shares:
            self._shares[tenant] = self._occupancy.share(tenant)
        return self._shares[tenant]
