"""The slots of each pool over time, that nobody holds or was promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.execute.requests.values import PodsAsked
from gangplan.types import Grant, Observation, Plan, PoolNode

NOW, BY_PLAN = 0, 1
"""The first two moments of a book: what is there now, and what the plan has for this hour."""


def is_open(node: PoolNode) -> bool:
    """Whether pods may start on a node."""
    return node.usable and not node.closed and not node.leaving and node.cordoned_at is None


@dataclass
class Page:
    """A pool: slots of a node, free slots of each node that is open now, and free slots at each moment of the book.

    A free slot of a moment may be negative: those who hold the nodes keep them when the plan has fewer.
    """

    per_node: int
    nodes: dict[str, int]
    free: list[int]
    starts: set[int] = field(default_factory=set[int])  # the moments at which somebody was told to start

    def take_anywhere(self, slots: int) -> None:
        """Take slots on nodes that nobody knows yet: those that are missed most, the emptiest."""
        for name in sorted(self.nodes, key=lambda name: (-self.nodes[name], name)):
            taken = min(slots, self.nodes[name])
            self.nodes[name] -= taken
            slots -= taken

    def places(self, pods: Iterable[PodsAsked]) -> bool:
        """Whether the pods fit on the open nodes, each whole on one: the largest first, where least is left."""
        free = sorted(self.nodes.values())
        for slots in sorted((one.slots for one in pods for _ in range(one.pods)), reverse=True):
            place = next((index for index, room in enumerate(free) if room >= slots), None)
            if place is None:
                return False
            free[place] -= slots
            free.sort()
        return True


class Book:
    """The pages of all pools, with the moments that they share: now, this hour by the plan, and each later hour."""

    def __init__(self, plan: Plan, observed: Observation, grants: Iterable[Grant], now: datetime) -> None:
        hours = plan.nodes["hour"].unique().sort().to_list()
        self.moments: list[datetime] = [now, floor_hour(now), *(hour for hour in hours if hour > now)]
        self.end: datetime = max(hours, default=now) + HOUR
        planned = _planned(plan)
        nodes = {one.pool: one.nodes for one in observed.nodes}
        self.pages = {
            pool.name: _page(pool.slots_per_node, nodes.get(pool.name, ()), planned.get(pool.name, {}), self.moments)
            for pool in plan.fleet.pools
        }
        for grant in grants:
            self._hold(grant)

    def _hold(self, grant: Grant) -> None:
        """Take what a grant holds: on its nodes, and until it ends."""
        page = self.pages.get(grant.pool)
        if page is None:
            return
        for node, slots in grant.nodes.items():
            if node in page.nodes:
                page.nodes[node] = max(0, page.nodes[node] - slots)
        elsewhere = sum(slots for node, slots in grant.nodes.items() if node not in page.nodes)
        page.take_anywhere(grant.slots - sum(grant.nodes.values()))
        for index, moment in enumerate(self.moments):
            if grant.until is None or grant.until > moment:
                page.free[index] -= grant.slots - (elsewhere if index == NOW else 0)

    def start(self, slots: Mapping[str, int], pods: Iterable[PodsAsked], limit: timedelta | None) -> int | None:
        """Return the first moment at which all of it is free, and nobody before it is held up; None: there is none."""
        pods = tuple(pods)
        fits = all(self.pages[pool].places(one for one in pods if one.pool == pool) for pool in slots)
        for index in range(NOW if fits else BY_PLAN, len(self.moments)):
            if all(self._free(pool, slots[pool], index, limit) for pool in slots):
                return index
        return None

    def _free(self, pool: str, slots: int, start: int, limit: timedelta | None) -> bool:
        page, end = self.pages[pool], self._end(start, limit)
        return all(page.free[index] >= slots for index in (start, *page.starts) if start <= index < end)

    def _end(self, start: int, limit: timedelta | None) -> int:
        """Return the first moment at which something that starts at one is over."""
        if limit is None:
            return len(self.moments)
        over = self.moments[start] + limit
        return next((i for i in range(start + 1, len(self.moments)) if self.moments[i] >= over), len(self.moments))

    def take(self, slots: Mapping[str, int], start: int, limit: timedelta | None) -> None:
        """Write down who starts at a moment; who is late takes what is there already."""
        for pool, needed in slots.items():
            page = self.pages[pool]
            page.starts.add(start)
            for index in range(NOW if start == BY_PLAN else start, self._end(start, limit)):
                page.free[index] -= needed
            if start <= BY_PLAN:
                page.take_anywhere(needed)

    def there(self, pool: str, slots: int) -> tuple[int, int]:
        """Return how many of the nodes that hold so many slots are free now, and how many they are."""
        page = self.pages[pool]
        free = min(sum(page.nodes.values()), max(0, page.free[NOW]))
        return min(slots, free) // page.per_node, -(-slots // page.per_node)

    def most(self, pool: str) -> int:
        """Return the most nodes that are ever free."""
        page = self.pages[pool]
        return max(0, *page.free) // page.per_node


def _planned(plan: Plan) -> dict[str, dict[datetime, int]]:
    planned: dict[str, dict[datetime, int]] = {}
    for pool, hour, nodes in plan.nodes.select("pool", "hour", pl.col("nodes")).iter_rows():
        planned.setdefault(pool, {})[hour] = nodes
    return planned


def _page(per_node: int, nodes: Iterable[PoolNode], planned: Mapping[datetime, int], moments: list[datetime]) -> Page:
    free = {node.name: per_node for node in nodes if is_open(node)}
    later = [per_node * planned.get(moment, 0) for moment in moments[BY_PLAN:]]
    return Page(per_node=per_node, nodes=free, free=[sum(free.values()), *later])
