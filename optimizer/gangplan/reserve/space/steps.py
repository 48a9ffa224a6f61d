"""How many nodes the calendar plans for a pool over time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from gangplan.clock import FOREVER, to_us
from gangplan.errors import InputError
from gangplan.types import CapacityCalendar


class Steps:
    """A pool's planned node count as steps over time: none before the first step, the last one holds for ever."""

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

    def first_below(self, nodes: int, after: int) -> int:
        """Return from when on, not before `after`, there are fewer nodes; before the first step none are missed."""
        for index, at in enumerate(self.times):
            until = self.times[index + 1] if index + 1 < len(self.times) else FOREVER
            if self.nodes[index] < nodes and until > after:
                return max(at, after)
        return FOREVER

    def at(self, moment: int) -> int:
        """Return the nodes at one moment."""
        return self.least(moment, moment)


def steps_of(calendar: CapacityCalendar, pool: str) -> Steps:
    """Return a pool's planned node count; between two intervals that do not touch there are no nodes."""
    spans = sorted((to_us(i.start), to_us(i.end), i.nodes) for i in calendar.intervals if i.pool == pool)
    steps: list[tuple[int, int]] = []
    for index, (start, end, nodes) in enumerate(spans):
        if not steps or steps[-1][1] != nodes:
            steps.append((start, nodes))
        if index + 1 < len(spans) and spans[index + 1][0] > end:
            steps.append((end, 0))
    return Steps(steps)


def check_calendar(calendar: CapacityCalendar) -> None:
    """Refuse a calendar with two intervals of a pool that overlap, or two pools of one name."""
    last: dict[str, int] = {}
    for interval in sorted(calendar.intervals, key=lambda i: i.start):
        if to_us(interval.start) < last.get(interval.pool, 0):
            where = f"{interval.pool} {interval.start.isoformat()}"
            raise InputError("intervals", where, "overlaps the one before: leave one out")
        last[interval.pool] = to_us(interval.end)
    names = [pool.name for pool in calendar.pools]
    for name in names:
        if names.count(name) > 1:
            raise InputError("pools.name", name, "stands twice: give each pool a name of its own")
