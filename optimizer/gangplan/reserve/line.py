"""What waits, in the order in which it is served: points, then the tenant's share, then arrival.

Points are priority plus age, and never change between two requests. A tenant's share is its dominant one over its
weight, and grows with each of its gangs that is served before the next is chosen (progressive filling).

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace

from gangplan.reserve.entry import Entry

Key = tuple[int, str, int, int]
"""A group of entries that differ in their arrival alone: points, tenant, kind, walltime."""


class Line:
    """The entries that wait, in groups."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[Key, list[tuple[int, Entry]]]] = {}
        self._points: list[int] = []

    def add(self, entry: Entry) -> None:
        """Let an entry wait."""
        key = _key(entry)
        if key[0] not in self._levels:
            self._levels[key[0]] = {}
            insort(self._points, key[0])
        insort(self._levels[key[0]].setdefault(key, []), (entry.arrival, entry))

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        key = _key(entry)
        level = self._levels[key[0]]
        group = level[key]
        del group[bisect_left(group, (entry.arrival,))]
        if not group:
            del level[key]
        if not level:
            del self._levels[key[0]]
            del self._points[bisect_left(self._points, key[0])]

    def levels(self) -> Iterator[dict[Key, list[tuple[int, Entry]]]]:
        """Yield the groups of each level of points, the first level first, as they are when it comes."""
        for points in list(self._points):
            if points in self._levels:
                yield {key: list(group) for key, group in self._levels[points].items()}


def _key(entry: Entry) -> Key:
    return entry.points, entry.request.tenant, entry.kind, entry.limit


class Walk:
    """One walk along a line: each entry is served before the next is chosen.

    `share` gives a tenant's share at the start, `part` what one more gang adds to it.
    """

    def __init__(self, line: Line, share: Callable[[str], float], part: Callable[[Entry], float]) -> None:
        self._line = line
        self._share = share
        self._part = part
        self._shares: dict[str, float] = {}
        self._dropped: set[Key] = set()

    def __iter__(self) -> Iterator[Entry]:
        for groups in self._line.levels():
            yield from self._level(groups)

    def drop(self, entry: Entry) -> None:
        """Pass over all that come behind an entry in its group."""
        self._dropped.add(_key(entry))

    def _level(self, groups: dict[Key, list[tuple[int, Entry]]]) -> Iterator[Entry]:
        """Yield the entries of one level: of the tenant with the least share, what came first."""
        tenants: dict[str, list[tuple[int, int, Key]]] = {}  # heaps of (arrival, place in the group, group)
        for key, group in groups.items():
            tenants.setdefault(key[1], []).append((group[0][0], 0, key))
        for heap in tenants.values():
            heapify(heap)
        order = [(self._of(tenant), heap[0][0], tenant) for tenant, heap in tenants.items()]
        heapify(order)
        while order:
            share, _, tenant = heappop(order)
            heap = tenants[tenant]
            _, place, key = heap[0]
            entry = groups[key][place][1]
            share = self._place(entry, share)
            yield entry
            self._shares[tenant] = share
            if key not in self._dropped and place + 1 < len(groups[key]):
                heapreplace(heap, (groups[key][place + 1][0], place + 1, key))
            else:
                heappop(heap)
            if heap:
                heappush(order, (self._shares[tenant], heap[0][0], tenant))

    def _place(self, entry: Entry, share: float) -> float:
        """Give an entry its rank, unless a promise froze it, and return its tenant's share with it.

        Of one tenant and level nobody ranks before one that came earlier, though the tenant's share may have fallen.
        """
        if entry.plan is None:
            entry.rank = (entry.points, share, entry.arrival)
        elif entry.plan.firm:
            return share
        return max(share, entry.rank[1]) + self._part(entry)

    def _of(self, tenant: str) -> float:
        if tenant not in self._shares:
            self._shares[tenant] = self._share(tenant)
        return self._shares[tenant]
