"""A pool's capacity over time: what its nodes carry now, what is planned on them, and where a gang fits.

Times are whole microseconds (`moments`). A commitment holds GPUs of one node: a running one until its end, a planned
one from its start to its end. The planned calendar caps which nodes exist: node n is there while the calendar has more
than n nodes. A node that is out (draining or lost) takes no gang, whatever still stands on it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate

from gangplan.reserve.moments import FOREVER
from gangplan.reserve.space.packing import (
    Shape,
    Slot,
    Slots,
    ever_fits,
    fill,
    widths_wished,
)
from gangplan.reserve.space.sweep import Sweep
from gangplan.types import Pool


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


class Domains:
    """Domains of one width (so many nodes in a row) by the free GPUs of their nodes together."""

    def __init__(self, width: int, whole: int) -> None:
        self.width = width
        self.by_free: list[list[int]] = [[] for _ in range(width * whole + 1)]  # domains, ascending
        self._free: list[int] = []

    def add(self, node: int, gpus: int) -> None:
        """Count free GPUs of a node in or out."""
        domain = node // self.width
        while domain >= len(self._free):
            self.by_free[0].append(len(self._free))
            self._free.append(0)
        old = self._free[domain]
        self._free[domain] = old + gpus
        _shift(self.by_free, domain, old, old + gpus)


def _shift(lists: list[list[int]], item: int, old: int, new: int) -> None:
    """Move an item from one of the ascending lists to another."""
    if old != new:
        del lists[old][bisect_left(lists[old], item)]
        insort(lists[new], item)


class Board:
    """The commitments of one pool, kept so that a full pool says no in constant time."""

    def __init__(self, pool: Pool, steps: Steps) -> None:
        self.pool = pool
        self.steps = steps
        self.size = 0
        self.whole = pool.slots_per_node
        self.free: list[int] = []  # GPUs that no running gang holds, by node
        self.out: frozenset[int] = frozenset()  # nodes that take no gang
        self.ready: list[int] = []  # all others, ascending
        self.by_free: list[list[int]] = [[] for _ in range(self.whole + 1)]  # ready nodes with so many free, ascending
        self.running: list[list[tuple[int, int, str]]] = []  # (end, gpus, holder)
        self.planned: dict[int, list[tuple[int, int, int, str]]] = {}  # node: (start, end, gpus, holder), ascending
        self.ends: list[tuple[int, int, int, str]] = []  # (end, node, gpus, holder) of all that runs, ascending
        self.plan_starts: list[tuple[int, int]] = []  # (start, node) of all that is planned, ascending
        self.plan_ends: list[tuple[int, int]] = []  # (end, node) of all that is planned, ascending
        self.longest = 0  # no promise was ever longer
        self._domains = {
            width: Domains(width, self.whole) for width in (pool.nodes_per_nvlink, pool.nodes_per_rack) if width > 1
        }
        self._lines: dict[int, tuple[list[int], list[int]]] = {}  # what `_line` found out, by node
        self._sweep: Sweep | None = None  # the last one, while nothing has changed
        self._grow(max(steps.most, 1) - 1)

    # ------------------------------------------------------------ commitments

    def hold(self, holder: str, slots: Slots, end: int) -> None:
        """Let a gang run on its slots until `end`."""
        for slot in slots:
            self._grow(slot.node)
            self.running[slot.node].append((end, slot.gpus, holder))
            insort(self.ends, (end, slot.node, slot.gpus, holder))
            self._move(slot.node, -slot.gpus)
        self._forget(slots)

    def drop(self, holder: str, slots: Slots, end: int) -> None:
        """Take a running gang off its slots."""
        for slot in slots:
            self.running[slot.node].remove((end, slot.gpus, holder))
            del self.ends[bisect_left(self.ends, (end, slot.node, slot.gpus, holder))]
            self._move(slot.node, slot.gpus)
        self._forget(slots)

    def plan(self, holder: str, slots: Slots, start: int, end: int) -> None:
        """Promise the slots from `start` to `end`."""
        for slot in slots:
            insort(self.planned.setdefault(slot.node, []), (start, end, slot.gpus, holder))
            insort(self.plan_starts, (start, slot.node))
            insort(self.plan_ends, (end, slot.node))
        self.longest = max(self.longest, end - start)
        self._forget(slots)

    def unplan(self, holder: str, slots: Slots, start: int, end: int) -> None:
        """Take a promise back."""
        for slot in slots:
            there = self.planned[slot.node]
            there.remove((start, end, slot.gpus, holder))
            if not there:
                del self.planned[slot.node]
            del self.plan_starts[bisect_left(self.plan_starts, (start, slot.node))]
            del self.plan_ends[bisect_left(self.plan_ends, (end, slot.node))]
        self._forget(slots)

    def set_out(self, nodes: Collection[int]) -> None:
        """Let exactly these nodes take no gang from now on; what runs or is promised on them stays until taken off."""
        before, self.out = self.out, frozenset(nodes)
        for node in before ^ self.out:
            if node < self.size and node in self.out:
                there = self.by_free[max(0, self.free[node])]
                del there[bisect_left(there, node)]
                self._count(node, self.free[node], 0)
            elif node < self.size:
                insort(self.by_free[max(0, self.free[node])], node)
                self._count(node, 0, self.free[node])
        self.ready = [node for node in range(self.size) if node not in self.out]
        self._sweep = None

    def _grow(self, node: int) -> None:
        """Make room for a node that the calendar no longer has but a gang still runs on."""
        while node >= self.size:
            self.free.append(self.whole)
            self.running.append([])
            if self.size not in self.out:
                self.by_free[self.whole].append(self.size)
                self.ready.append(self.size)
                self._count(self.size, 0, self.whole)
            self.size += 1

    def _move(self, node: int, gpus: int) -> None:
        """Change a node's free GPUs and keep the lists in step."""
        old = self.free[node]
        new = self.free[node] = old + gpus
        if node not in self.out:
            _shift(self.by_free, node, max(0, old), max(0, new))
            self._count(node, old, new)

    def _count(self, node: int, old: int, new: int) -> None:
        """Let the domains of a node know how many free GPUs it has to give."""
        for domains in self._domains.values():
            domains.add(node, max(0, new) - max(0, old))

    def _forget(self, slots: Slots) -> None:
        """Forget what was found out about nodes that change."""
        self._sweep = None
        for slot in slots:
            self._lines.pop(slot.node, None)

    # ------------------------------------------------------------ what is free

    def free_over(self, node: int, start: int, end: int) -> int:
        """Return the GPUs of a node that stay free from `start` up to `end`, and may be given to a gang."""
        if node in self.out:
            return 0
        times, free = self._line(node)
        first = bisect_right(times, start)
        return min(free[first : bisect_left(times, end, first) + 1])

    def _line(self, node: int) -> tuple[list[int], list[int]]:
        """Return the moments at which a node's free GPUs change, and how many it has before, between and after them."""
        line = self._lines.get(node)
        if line is None:
            changes: dict[int, int] = {}
            for end, gpus, _ in self.running[node]:
                changes[end] = changes.get(end, 0) + gpus
            for since, until, gpus, _ in self.planned.get(node, ()):
                changes[since] = changes.get(since, 0) - gpus
                changes[until] = changes.get(until, 0) + gpus
            times = sorted(changes)
            line = self._lines[node] = times, list(accumulate((changes[at] for at in times), initial=self.free[node]))
        return line

    def free_now(self, limit: int) -> int:
        """Return the GPUs that no running gang holds, on nodes below `limit` that are not out."""
        return sum(free * bisect_left(nodes, limit) for free, nodes in enumerate(self.by_free))

    def is_free(self, slots: Slots, start: int, end: int) -> bool:
        """Tell whether exactly these slots are free from `start` up to `end`."""
        limit = self.steps.least(start, end)
        needs: dict[int, int] = {}
        for slot in slots:
            needs[slot.node] = needs.get(slot.node, 0) + slot.gpus
        return all(node < limit and self.free_over(node, start, end) >= gpus for node, gpus in needs.items())

    # ------------------------------------------------------------ where a gang fits

    def fit_now(self, shape: Shape, now: int, end: int) -> Slots | None:
        """Return slots that are free from now up to `end`, best-fit, or None."""
        limit = self.steps.least(now, end)
        if not shape.fits_in([bisect_left(nodes, limit) for nodes in self.by_free]):
            return None
        anywhere = None if shape.must else fill(self._ascending_now(now, end, limit, shape.least), shape)
        if anywhere is None and not shape.must:
            return None
        for width in widths_wished(self.pool, shape):
            if slots := self._fit_domain(shape, width, now, end, limit):
                return slots
        return anywhere

    def _ascending_now(self, now: int, end: int, limit: int, least: int) -> Iterator[tuple[int, int]]:
        """Yield (free GPUs, node) of the nodes that stay free until `end`, the fullest first."""
        for free in range(least, self.whole + 1):
            for node in self.by_free[free]:
                if node >= limit:
                    break
                stays = self._stays(node, now, end)
                if stays >= least:
                    yield stays, node

    def _stays(self, node: int, now: int, end: int) -> int:
        """Return the GPUs of a node that are free now and stay so up to `end`."""
        plans = self.planned.get(node)
        return self.free_over(node, now, end) if plans and plans[0][0] < end else self.free[node]

    def _fit_domain(self, shape: Shape, width: int, now: int, end: int, limit: int) -> Slots | None:
        """Return slots in the fullest domain of a width that has room for the gang."""
        by_free = self._domains[width].by_free if width > 1 else self.by_free
        for free in range(shape.gpus, len(by_free)):
            for domain in by_free[free]:
                if domain * width >= limit:
                    break
                nodes = range(domain * width, min(limit, (domain + 1) * width))
                if slots := fill(self._members(nodes, now, end), shape):
                    return slots
        return None

    def _members(self, nodes: Iterable[int], now: int, end: int) -> list[tuple[int, int]]:
        """Return (free GPUs, node) of the nodes that have something to give, the fullest first."""
        there = ((self._stays(node, now, end), node) for node in nodes if node not in self.out)
        return sorted(one for one in there if one[0] > 0)

    def earliest(
        self, shape: Shape, length: int, after: int, until: int = FOREVER, tries: int = FOREVER
    ) -> tuple[int, Slots] | None:
        """Return the first start from `after` to `until` at which the gang fits for `length`, and its slots.

        Counts rule most moments out; of the others, `tries` are looked at node by node. To ask again for a later start
        costs only the way from the last answer, while nothing has changed.
        """
        if after > until or self.steps.most * self.whole < shape.gpus:
            return None
        sweep = self._sweep
        if sweep is None or sweep.length != length or sweep.moment > after:
            sweep = self._sweep = Sweep(self, after, length)
        elif sweep.moment < after:
            sweep.advance(after)
        slots = sweep.first(shape, until, tries)
        return None if slots is None else (sweep.moment, slots)

    def fit_more(self, have: Slots, shape: Shape, now: int, end: int) -> Slots | None:
        """Return slots for more pods of a running gang, free from now up to `end`, beside those that it has.

        What must stand together does so in the domain where the gang stands; what should is put there if it fits.
        """
        limit = self.steps.least(now, end)
        for width in widths_wished(self.pool, shape):
            domains = {slot.node // width for slot in have}
            if len(domains) == 1:
                first = domains.pop() * width
                nodes = range(first, min(limit, first + width))
                if slots := fill(self._members(nodes, now, end), shape):
                    return slots
        return None if shape.must else fill(self._ascending_now(now, end, limit, shape.pods[-1][0]), shape)


__all__ = ["Board", "Shape", "Slot", "Slots", "Steps", "ever_fits"]
