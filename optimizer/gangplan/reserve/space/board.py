"""A pool's capacity over time: what its nodes carry now, what is promised on them, and where a gang fits.

Times are whole microseconds (`moments`). A commitment holds slots of one node: a running one until its end, a promised
one from its start to its end. The planned calendar caps which nodes exist: node n is there while the calendar has more
than n nodes. A node that is out (draining or lost) takes no gang, whatever still stands on it; where it is known when
it goes or comes back, gangs are placed on it up to then and from then on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate

from gangplan.clock import FOREVER, from_us
from gangplan.reserve.space.outage import Span
from gangplan.reserve.space.packing import Shape, Slots, fill, widths_wished
from gangplan.reserve.space.steps import Steps
from gangplan.reserve.space.sweep import BoardView, Sweep
from gangplan.types import FreeCapacity, Pool

Stays = Callable[[int], int]
"""From a node to the slots of it that stay free."""


class Domains:
    """The domains of one width (nodes in a row), ordered by the slots that are free on their nodes together."""

    def __init__(self, width: int, whole: int) -> None:
        self.width = width
        self.by_free: list[list[int]] = [[] for _ in range(width * whole + 1)]  # domains, ascending
        self._free: list[int] = []

    def add(self, node: int, gpus: int) -> None:
        """Add to the free slots of a node's domain; a negative number takes away."""
        domain = node // self.width
        while domain >= len(self._free):
            self.by_free[0].append(len(self._free))
            self._free.append(0)
        old = self._free[domain]
        self._free[domain] = old + gpus
        _shift(self.by_free, domain, old, old + gpus)


def _shift(lists: list[list[int]], item: int, old: int, new: int) -> None:
    """Move an item from the list at index `old` to that at `new`; both stay ascending."""
    if old != new:
        del lists[old][bisect_left(lists[old], item)]
        insort(lists[new], item)


class Board:
    """The commitments of one pool, indexed so that a full pool is recognised in constant time."""

    def __init__(self, pool: Pool, steps: Steps) -> None:
        self.pool = pool
        self.steps = steps
        self.size = 0
        self.whole = pool.slots_per_node
        self.free: list[int] = []  # slots that no running gang holds, by node
        self.outages: dict[int, Span] = {}  # by node: when it takes no gang
        self.out: frozenset[int] = frozenset()  # nodes that take no gang now
        self.ready: list[int] = []  # all others, ascending
        self.by_free: list[list[int]] = [[] for _ in range(self.whole + 1)]  # ready nodes by free slots, ascending
        self.running: list[list[tuple[int, int, str]]] = []  # by node: (end, slots, holder)
        self.planned: dict[int, list[tuple[int, int, int, str]]] = {}  # by node: (start, end, slots, holder), ascending
        self.ends: list[tuple[int, int, int, str]] = []  # (end, node, slots, holder) of all that runs, ascending
        self.plan_starts: list[tuple[int, int]] = []  # (start, node) of all that is promised, ascending
        self.plan_ends: list[tuple[int, int]] = []  # (end, node) of all that is promised, ascending
        self.longest = 0  # upper bound of the length of any promise
        self._domains = {
            width: Domains(width, self.whole) for width in (pool.nodes_per_nvlink, pool.nodes_per_rack) if width > 1
        }
        self._profiles: dict[int, tuple[list[int], list[int]]] = {}  # cache of `_profile`, by node
        self._sweep: Sweep | None = None  # the last one; any change of the board ends it
        self._grow(max(steps.most, 1) - 1)

    @property
    def most_nodes(self) -> int:
        """The most nodes that the pool could come to have."""
        return max(self.pool.max_nodes, self.steps.most)

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
            promises = self.planned[slot.node]
            promises.remove((start, end, slot.gpus, holder))
            if not promises:
                del self.planned[slot.node]
            del self.plan_starts[bisect_left(self.plan_starts, (start, slot.node))]
            del self.plan_ends[bisect_left(self.plan_ends, (end, slot.node))]
        self._forget(slots)

    def set_out(self, outages: Mapping[int, Span]) -> None:
        """Let exactly these nodes take no gang in these times; what runs or is promised on them stays for now."""
        self._grow(max(outages, default=0))
        self._count_changes(-1)
        self.outages = dict(outages)
        self._count_changes(1)
        before, self.out = self.out, frozenset(node for node, outage in outages.items() if not outage.begin)
        for node in before ^ self.out:
            if node in self.out:
                alike = self.by_free[max(0, self.free[node])]
                del alike[bisect_left(alike, node)]
                self._count(node, self.free[node], 0)
            else:
                insort(self.by_free[max(0, self.free[node])], node)
                self._count(node, 0, self.free[node])
        self.ready = [node for node in range(self.size) if node not in self.out]
        self._sweep = None

    def _count_changes(self, sign: int) -> None:
        """Add the moments at which nodes go and come back to those of promises, or (sign -1) take them out."""
        for node, outage in self.outages.items():
            for moments, at in ((self.plan_starts, outage.begin), (self.plan_ends, outage.back)):
                if sign > 0 and 0 < at < FOREVER:
                    insort(moments, (at, node))
                elif 0 < at < FOREVER:
                    del moments[bisect_left(moments, (at, node))]
            if sign > 0 and outage.begin:
                self.longest = max(self.longest, outage.back - outage.begin)

    def _grow(self, node: int) -> None:
        """Add nodes up to this number: the calendar's, or one that it no longer has but a gang still runs on."""
        while node >= self.size:
            self.free.append(self.whole)
            self.running.append([])
            if self.size not in self.out:
                self.by_free[self.whole].append(self.size)
                self.ready.append(self.size)
                self._count(self.size, 0, self.whole)
            self.size += 1

    def _move(self, node: int, gpus: int) -> None:
        """Change a node's free slots, in all indexes."""
        old = self.free[node]
        new = self.free[node] = old + gpus
        if node not in self.out:
            _shift(self.by_free, node, max(0, old), max(0, new))
            self._count(node, old, new)

    def _count(self, node: int, old: int, new: int) -> None:
        """Change the free slots of a node's domains."""
        for domains in self._domains.values():
            domains.add(node, max(0, new) - max(0, old))

    def _forget(self, slots: Slots) -> None:
        """Drop the cached sweep, and the cached profiles of nodes that change."""
        self._sweep = None
        for slot in slots:
            self._profiles.pop(slot.node, None)

    # ------------------------------------------------------------ what is free

    def free_over(self, node: int, start: int, end: int, *, keep: bool = False) -> int:
        """Return the slots of a node that stay free from `start` up to `end`; none where it is out in that time.

        With `keep`, a node that may be back at any time counts as though it were.
        """
        outage = self.outages.get(node)
        if outage is not None and outage.covers(start, end) and not (keep and outage.keeps):
            return 0
        times, free = self._profile(node)
        first = bisect_right(times, start)
        return min(free[first : bisect_left(times, end, first) + 1])

    def _profile(self, node: int) -> tuple[list[int], list[int]]:
        """Return when a node's free slots change, and how many are free before the first change and from each on."""
        profile = self._profiles.get(node)
        if profile is None:
            changes: dict[int, int] = {}
            for end, gpus, _ in self.running[node]:
                changes[end] = changes.get(end, 0) + gpus
            for since, until, gpus, _ in self.planned.get(node, ()):
                changes[since] = changes.get(since, 0) - gpus
                changes[until] = changes.get(until, 0) + gpus
            times = sorted(changes)
            free = list(accumulate((changes[at] for at in times), initial=self.free[node]))
            profile = self._profiles[node] = times, free
        return profile

    def free_now(self, limit: int) -> int:
        """Return the slots that no running gang holds, on nodes below `limit` that are not out."""
        return sum(free * bisect_left(nodes, limit) for free, nodes in enumerate(self.by_free))

    def is_free(self, slots: Slots, start: int, end: int, *, keep: bool = False) -> bool:
        """Tell whether exactly these slots are free from `start` up to `end`; `keep` is that of `free_over`."""
        limit = self.steps.least(start, end)
        needs: dict[int, int] = {}
        for slot in slots:
            needs[slot.node] = needs.get(slot.node, 0) + slot.gpus
        free = partial(self.free_over, start=start, end=end, keep=keep)
        return all(node < limit and free(node) >= gpus for node, gpus in needs.items())

    def nodes_at(self, moment: int) -> int:
        """Return how many nodes there are at a moment that take gangs."""
        limit = self.steps.at(moment)
        return limit - sum(node < limit and out.covers(moment, moment + 1) for node, out in self.outages.items())

    def changes(self) -> list[int]:
        """Return the moments at which nodes go or come back, by the calendar or for an outage, ascending."""
        moments = {at for outage in self.outages.values() for at in (outage.begin, outage.back) if 0 < at < FOREVER}
        return sorted(moments.union(self.steps.times))

    # ------------------------------------------------------------ where a gang fits

    def fit_now(self, shape: Shape, now: int, end: int, *, promises: bool = True) -> Slots | None:
        """Return slots that are free from now up to `end`, best-fit, or None; without `promises` these do not count."""
        limit = self.steps.least(now, end)
        if not shape.fits_in([bisect_left(nodes, limit) for nodes in self.by_free]):
            return None
        stays = self._staying(now, end) if promises else self._unheld(now, end)
        anywhere = None if shape.must else fill(self._ascending(stays, limit, shape.least), shape)
        if anywhere is None and not shape.must:
            return None
        for width in widths_wished(self.pool, shape):
            if slots := self._fit_domain(shape, width, limit, stays):
                return slots
        return anywhere

    def _staying(self, now: int, end: int) -> Stays:
        """Return a function from a node to its slots that are free now and stay so up to `end`."""
        planned, free, outages = self.planned, self.free, self.outages

        def stays(node: int) -> int:
            promises = planned.get(node)
            changes = (promises and promises[0][0] < end) or node in outages
            return self.free_over(node, now, end) if changes else free[node]

        return stays

    def _unheld(self, now: int, end: int) -> Stays:
        """Return a function from a node to its slots that nobody holds now, none where it goes before `end`."""
        outages, free = self.outages, self.free
        return lambda node: 0 if node in outages and outages[node].covers(now, end) else free[node]

    def _ascending(self, stays: Stays, limit: int, least: int) -> Iterator[tuple[int, int]]:
        """Yield (free slots, node) of the nodes below `limit` with at least so many, the fullest first."""
        for free in range(least, self.whole + 1):
            for node in self.by_free[free]:
                if node >= limit:
                    break
                staying = stays(node)
                if staying >= least:
                    yield staying, node

    def _fit_domain(self, shape: Shape, width: int, limit: int, stays: Stays) -> Slots | None:
        """Return slots in the fullest domain of a width that has room for the gang."""
        by_free = self._domains[width].by_free if width > 1 else self.by_free
        for free in range(shape.gpus, len(by_free)):
            for domain in by_free[free]:
                if domain * width >= limit:
                    break
                if slots := fill(self._members(domain, width, limit, stays), shape):
                    return slots
        return None

    def _members(self, domain: int, width: int, limit: int, stays: Stays) -> list[tuple[int, int]]:
        """Return (free slots, node) of a domain's nodes that have any, the fullest first."""
        nodes = range(domain * width, min(limit, (domain + 1) * width))
        members = ((stays(node), node) for node in nodes if node not in self.out)
        return sorted(member for member in members if member[0] > 0)

    def earliest(
        self, shape: Shape, length: int, after: int, until: int = FOREVER, tries: int = FOREVER
    ) -> tuple[int, Slots] | None:
        """Return the first start from `after` to `until` at which the gang fits for `length`, and its slots.

        Counts rule most moments out; of the others, `tries` are looked at node by node. While the board has not
        changed, asking again for a later start goes on from the last answer.
        """
        if after > until or self.steps.most * self.whole < shape.gpus:
            return None
        sweep = self._sweep
        if sweep is None or sweep.length != length or sweep.moment > after:
            sweep = self._sweep = Sweep(self._view(), after, length)
        elif sweep.moment < after:
            sweep.advance(after)
        slots = sweep.first(shape, until, tries)
        return None if slots is None else (sweep.moment, slots)

    def _view(self) -> BoardView:
        """Return the board as a sweep reads it."""
        return BoardView(
            pool=self.pool,
            steps=self.steps,
            size=self.size,
            free=self.free,
            by_free=self.by_free,
            gone=frozenset(node for node in self.out if self.outages[node].back == FOREVER),
            outages=self.outages,
            ready=self.ready,
            ends=self.ends,
            planned=self.planned,
            plan_starts=self.plan_starts,
            plan_ends=self.plan_ends,
            longest=self.longest,
            free_over=self.free_over,
        )

    def fit_more(self, have: Slots, shape: Shape, now: int, end: int) -> Slots | None:
        """Return slots for more pods of a running gang, free from now up to `end`, beside those that it has.

        Pods that are required to be close to the gang get slots in its own domain; others get them there if they fit.
        """
        limit, stays = self.steps.least(now, end), self._staying(now, end)
        for width in widths_wished(self.pool, shape):
            domains = {slot.node // width for slot in have}
            if len(domains) == 1 and (slots := fill(self._members(domains.pop(), width, limit, stays), shape)):
                return slots
        return None if shape.must else fill(self._ascending(stays, limit, shape.pods[-1][0]), shape)

    # ------------------------------------------------------------ free capacity over time

    def free_capacity(self, start: int, end: int) -> list[FreeCapacity]:
        """Return planned and held slots from `start` up to `end`, one value for each stretch without a change.

        Nodes that take no gang are left out.
        """
        changes = self._held_changes(start, end)
        for moment in self.changes():
            if start < moment < end:
                changes[moment] += 0
        moments = sorted(changes)
        stretches: list[tuple[int, int, int, int]] = []  # start, end, planned, held
        held = 0
        for moment, following in zip(moments, [*moments[1:], end], strict=True):
            held += changes[moment]
            planned = self.nodes_at(moment) * self.whole
            same = stretches and stretches[-1][2:] == (planned, held)
            since = stretches.pop()[0] if same else moment
            stretches.append((since, following, planned, held))
        return [
            FreeCapacity(
                pool=self.pool.name, start=from_us(since), end=from_us(until), planned_gpus=planned, held_gpus=held
            )
            for since, until, planned, held in stretches
        ]

    def _held_changes(self, start: int, end: int) -> dict[int, int]:
        """Return by how many slots the held and promised ones change, by moment from `start` on."""
        changes: dict[int, int] = defaultdict(int, {start: 0})
        held = [(node, start, until, gpus) for until, node, gpus, _ in self.ends]
        for node, promises in self.planned.items():
            held += [(node, since, until, gpus) for since, until, gpus, _ in promises]
        for node, since, until, gpus in held:
            gone, back = self.outages[node][:2] if node in self.outages else (FOREVER, FOREVER)
            for first, last in ((since, min(until, gone)), (max(since, back), until)):
                if first < min(last, end) and last > start:
                    changes[max(first, start)] += gpus
                    if last < end:
                        changes[last] -= gpus
        return changes
