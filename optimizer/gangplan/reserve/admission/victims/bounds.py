"""What it costs at least to have room for so many pods: the bounds that the choice of victims is proven with.

Gangs are numbered, and sets of them are whole numbers with one bit for each. A weight is a whole number too, so that
bounds are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import NamedTuple, TypeAlias

from gangplan.reserve.space import Board, Slots

_EXACT = 800
"""Nodes times pods up to which a bound is found by dynamic programming; beyond, pods are counted in fractions."""

_EXACT_FIRST = 16_000
"""The same for the first bound of all, which is worked out once and gives the first answer."""


class Option(NamedTuple):
    """Gangs that, gone from one node, give room for so many more pods there."""

    gain: int
    weight: int
    gangs: int


class Bound(NamedTuple):
    """The least weight of gangs that give the room, and gangs that would give it if their weights could be split."""

    weight: int
    picks: tuple[tuple[int, int], ...]  # (node, gangs)


class Branch(NamedTuple):
    """What is decided so far: gangs that go, gangs that stay, and the nodes that either stand on."""

    gone: int = 0
    kept: int = 0
    touched: frozenset[int] = frozenset()


_Vector: TypeAlias = tuple[int, ...]


class Room:
    """What a board's nodes have free from `start` up to `end`, with any of the gangs gone.

    A node on which something is promised later has several moments to look at: the start, and each promised start. A
    gang that ends before such a moment frees nothing at it.
    """

    def __init__(self, board: Board, nodes: Sequence[int], gangs: Sequence[tuple[Slots, int]], start: int, end: int):
        self.board = board
        self.slack: dict[int, _Vector] = {node: self._slack(node, start, end) for node in nodes}
        self.base = {node: max(0, min(slack)) for node, slack in self.slack.items()}
        self.on: dict[int, list[tuple[int, _Vector]]] = {}
        self.bits: dict[int, int] = {}
        for index, (slots, until) in enumerate(gangs):
            self._stand(index, slots, until, start, end)

    def _moments(self, node: int, start: int, end: int) -> list[int]:
        """Return the moments at which a node may be short: the start, and the promised starts behind it."""
        later = {since for since, _, _, _ in self.board.planned.get(node, ()) if start < since < end}
        return [start, *sorted(later)]

    def _slack(self, node: int, start: int, end: int) -> _Vector:
        """Return a node's free GPUs at its moments, with all gangs there."""
        if node not in self.board.planned:
            held = [gpus for until, gpus, _ in self.board.running[node] if until > start]
            return (self.board.whole - sum(held),)
        free_over = self.board.free_over
        return tuple(free_over(node, moment, moment + 1) for moment in self._moments(node, start, end))

    def _stand(self, index: int, slots: Slots, until: int, start: int, end: int) -> None:
        """Note on each of a gang's nodes what it frees there when it goes."""
        gpus: Counter[int] = Counter()
        for slot in slots:
            gpus[slot.node] += slot.gpus
        for node, count in gpus.items():
            if node in self.slack and until > start:
                freed = tuple(count if until > moment else 0 for moment in self._moments(node, start, end))
                self.on.setdefault(node, []).append((index, freed))
                self.bits[node] = self.bits.get(node, 0) | 1 << index

    def without(self, node: int, gone: int) -> _Vector:
        """Return a node's free GPUs at its moments when some gangs are gone."""
        slack = self.slack[node]
        if gone & self.bits.get(node, 0):
            for index, freed in self.on[node]:
                if gone >> index & 1:
                    slack = tuple(map(add, slack, freed))
        return slack

    def free(self, node: int, gone: int) -> int:
        """Return the GPUs of a node that stay free when some gangs are gone."""
        return max(0, min(self.without(node, gone))) if gone & self.bits.get(node, 0) else self.base[node]


class Condition:
    """That some nodes together have room for `count` pods of `size` GPUs.

    A gang's weight is split over the nodes that it would make room on, over `need` of them at most: no choice of nodes
    that gives the pods needed is larger, so that the sum over nodes never exceeds what the gangs weigh.
    """

    def __init__(self, room: Room, nodes: Sequence[int], size: int, count: int, weights: Sequence[int]) -> None:
        self.room, self.size = room, size
        self.pods = {node: room.base[node] // size for node in nodes}
        self.need = count - sum(self.pods.values())
        self.split: dict[int, int] = {}
        self._known: dict[tuple[int, int, int], list[Option]] = {}
        self._by_gain: dict[int, list[tuple[int, int]]] = {}
        if self.need > 0:
            self._prepare([node for node in nodes if node in room.bits], weights)

    def _prepare(self, nodes: Sequence[int], weights: Sequence[int]) -> None:
        """Split the weights, and sort by weight what each node offers."""
        useful = [node for node in nodes if self.room.free(node, -1) // self.size > self.pods[node]]
        spread = Counter(index for node in useful for index, _ in self.room.on[node])
        self.split = {index: weights[index] // min(count, self.need) for index, count in spread.items()}
        for node in useful:
            for gain, weight, _ in self.options(node, 0, 0):
                self._by_gain.setdefault(gain, []).append((weight, node))
        for offers in self._by_gain.values():
            offers.sort()

    def met(self, gone: int, touched: frozenset[int]) -> bool:
        """Tell whether the pods have room when some gangs, which stand on `touched`, are gone."""
        return self._missing(gone, touched) <= 0

    def _missing(self, gone: int, touched: frozenset[int]) -> int:
        """Return how many pods still have no room."""
        pods, free, size = self.pods, self.room.free, self.size
        return self.need - sum(free(node, gone) // size - pods[node] for node in touched if node in pods)

    def bound(self, branch: Branch) -> Bound | None:
        """Return what the rest costs at least once a branch is taken, or None where it cannot be had."""
        need = self._missing(branch.gone, branch.touched)
        if need <= 0:
            return Bound(0, ())
        offers = self._offers(branch, need)
        most = _EXACT if branch.touched else _EXACT_FIRST
        return _cheapest(offers, need) if len(offers) * need <= most else _fractional(offers, need)

    def _offers(self, branch: Branch, need: int) -> dict[int, list[Option]]:
        """Return what the nodes that matter offer: of each gain the `need` cheapest, and all that the branch touches.

        A node that is not among these can always be swapped for one that is, since no more than `need` are used.
        """
        gone, kept, touched = branch
        offers = {node: self.options(node, gone, kept) for node in touched if node in self.pods}
        for cheapest in self._by_gain.values():
            left = need
            for _, node in cheapest:
                if node not in touched:
                    offers[node] = self.options(node, 0, 0)
                    left -= 1
                    if not left:
                        break
        return offers

    def options(self, node: int, gone: int, kept: int) -> list[Option]:
        """Return what a node offers beside what is decided: for each gain the cheapest gangs, if no gain above is."""
        bits = self.room.bits.get(node, 0)
        key = (node, gone & bits, kept & bits)
        if key not in self._known:
            self._known[key] = self._options(*key)
        return self._known[key]

    def _options(self, node: int, gone: int, kept: int) -> list[Option]:
        """Find them by dynamic programming over the free GPUs at the node's moments."""
        size, slack = self.size, self.room.without(node, gone)
        pods = max(0, min(slack)) // size
        most = (pods + self.need) * size  # more is of no use
        states: dict[_Vector, tuple[int, int]] = {slack: (0, 0)}
        for index, freed in self.room.on.get(node, ()):
            if index not in self.split or (gone | kept) >> index & 1:
                continue
            for there, (weight, gangs) in list(states.items()):
                more = tuple([min(most, free + here) for free, here in zip(there, freed, strict=True)])
                paid = weight + self.split[index]
                if more not in states or paid < states[more][0]:
                    states[more] = paid, gangs | 1 << index
        return _undominated((max(0, min(free)) // size - pods, *state) for free, state in states.items())


def _undominated(found: Iterable[tuple[int, int, int]]) -> list[Option]:
    """Return the options with a gain, without those that gain less for as much."""
    kept: list[Option] = []
    for gain, weight, gangs in sorted(found, key=lambda one: (-one[0], one[1])):
        if gain > 0 and (not kept or weight < kept[-1].weight):
            kept.append(Option(gain, weight, gangs))
    return kept


_Link: TypeAlias = "tuple[int, int, _Link] | None"


def _cheapest(offers: dict[int, list[Option]], need: int) -> Bound | None:
    """Return the cheapest options, one for each node at most, that gain `need` together."""
    best: list[tuple[int, _Link] | None] = [(0, None), *[None] * need]
    for node, options in offers.items():
        for have in range(need - 1, -1, -1):
            state = best[have]
            if state is None:
                continue
            for gain, weight, gangs in options:
                then = best[min(need, have + gain)]
                if then is None or state[0] + weight < then[0]:
                    best[min(need, have + gain)] = state[0] + weight, (node, gangs, state[1])
    return None if (end := best[need]) is None else Bound(end[0], tuple(_unlink(end[1])))


def _unlink(link: _Link) -> Iterator[tuple[int, int]]:
    while link is not None:
        yield link[0], link[1]
        link = link[2]


def _fractional(offers: dict[int, list[Option]], need: int) -> Bound | None:
    """Return a bound that pays for each pod what it costs in its node's cheapest option by the pod."""
    lines: list[tuple[int, int, int, Option]] = []
    for node, options in offers.items():
        if options:
            best = min(options, key=lambda one: (one.weight << 10) // one.gain)
            lines.append(((best.weight << 10) // best.gain, node, options[0].gain, best))
    total, picks = 0, list[tuple[int, int]]()
    for _, node, most, best in sorted(lines):
        taken = min(most, need)
        total += best.weight * taken // best.gain
        need -= taken
        picks.append((node, best.gangs))
        if not need:
            return Bound(total, tuple(picks))
    return None
