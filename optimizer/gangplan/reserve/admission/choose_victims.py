"""Which gangs to preempt for one beneficiary: the cheapest set of whole gangs whose slots suffice. No clock in here.

`choose` is a best-first branch and bound. A branch says of some gangs that they go, and of others that they stay. Its
bound divides each gang's cost among the nodes on which it would make room, and takes the cheapest nodes until there is
room for all pods. The gangs on these nodes are then tried as an answer: those that are not needed are left out, the
dearest first. An answer is therefore at hand when the budget of branches ends before the proof.

What the search brings over a greedy choice (`make bench-victims`: 269 questions on 8 to 512 full nodes, cost over the
cheapest victims there are; milliseconds of one core):

| | mean | 95th percentile | worst | 128 nodes | 512 nodes |
|---|---|---|---|---|---|
| the first bound alone, left out as above | +8.3 % | +41 % | +96 % | 6 ms | 20 ms |
| greedy, best of three orders, left out as above | +1.2 % | +8.5 % | +21 % | 30 ms | 230 ms |
| 60 branches | +0.2 % | +0.8 % | +10 % | 30 ms | 40 ms |

On small boards the answer is proven to be the cheapest.

Source: Land and Doig, "An Automatic Method of Solving Discrete Programming Problems", Econometrica 1960.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush, merge
from itertools import accumulate, count, groupby, islice
from operator import add
from typing import NamedTuple, TypeAlias

from gangplan.clock import SECOND
from gangplan.reserve.space import Board, Shape, Slots, place, width_of
from gangplan.types import Pool, require_at_least

BUDGET = 60
"""How many branches are looked at before the best answer so far is taken. More cost time and find cheaper victims."""

_COST = 1 << 20  # costs are told apart to a millionth
_UNIT = 1 << 16  # weights are whole multiples of it; what is lost where a weight is divided is less

Gangs: TypeAlias = frozenset[int]
"""Candidates, by their numbers in the order of cost."""

_NONE: Gangs = frozenset()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A running gang that may be preempted: what its loss costs, and when it was granted (microseconds)."""

    id: str
    slots: Slots
    hard_end: int
    cost: float
    tenant: str = ""
    granted: int = 0

    def __post_init__(self) -> None:
        require_at_least("cost", self.cost, 0)

    @property
    def gpus(self) -> int:
        """The GPUs of all its pods."""
        return sum(slot.gpus for slot in self.slots)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whom to preempt, where the beneficiary is then placed, and whether no set costs less."""

    victims: tuple[str, ...]
    slots: Slots
    cost: float
    proven: bool


def choose(
    board: Board,
    shape: Shape,
    candidates: Sequence[Candidate],
    now: int,
    end: int,
    *,
    must_free: Mapping[str, int] | None = None,
    budget: int = BUDGET,
) -> Choice | None:
    """Return the cheapest candidates whose slots, with what is free, hold the gang from `now` up to `end`.

    What others run or were promised stays as it is. Cost is the sum over the victims; of equals the fewest victims,
    then the fewest GPUs, then the youngest grants. Nodes that are out are not used; `must_free` names
    GPUs that the victims must free of tenants besides. None of the victims could be left out. None: not even all
    candidates suffice.
    """
    gangs = sorted((gang for gang in candidates if gang.hard_end > now), key=lambda gang: (gang.cost, gang.id))
    weights = _weights(gangs)
    due = [_due(gangs, tenant, gpus, weights) for tenant, gpus in (must_free or {}).items()]
    nodes = _nodes(board, gangs, now, end)
    width = board.size if shape.must is None else width_of(board.pool, shape.must)
    domains: list[_Domain] = []
    for _, numbers in groupby(nodes, key=lambda number: number // width):
        inside = {number: nodes[number] for number in numbers}
        room = [_Condition(inside, size, pods, weights) for size, pods in _needs(shape)]
        domains.append(_Domain(pool=board.pool, shape=shape, nodes=inside, gangs=gangs, conditions=[*due, *room]))
    return _Search(gangs, weights).run(domains, budget)


def _weights(gangs: Sequence[Candidate]) -> list[int]:
    """Return whole numbers that rank sets of gangs by cost, number, GPUs and age when they are added up."""
    youngest = max((gang.granted for gang in gangs), default=0)
    weights: list[int] = []
    for gang in gangs:
        counted = (round(gang.cost * _COST) << 16) + 1
        weights.append(((counted << 24) + gang.gpus << 40) + (youngest - gang.granted) // SECOND << 16)
    return weights


class _Node(NamedTuple):
    """A node's free GPUs now and at each promised start, and how many more each candidate on it would free then."""

    free: tuple[int, ...]
    frees: dict[int, tuple[int, ...]]

    def without(self, gone: Collection[int]) -> tuple[int, ...]:
        """Return the free GPUs at these moments when some gangs are gone."""
        free = self.free
        for index, frees in self.frees.items():
            if index in gone:
                free = tuple(map(add, free, frees))
        return free

    def least(self, gone: Collection[int]) -> int:
        """Return the GPUs that stay free when some gangs are gone."""
        return max(0, min(self.without(gone)))


_Nodes: TypeAlias = dict[int, _Node]


def _nodes(board: Board, gangs: Sequence[Candidate], now: int, end: int) -> _Nodes:
    """Return the nodes that may be used, in their order. A gang frees nothing at a moment by which it has ended."""
    nodes: _Nodes = {}
    moments: dict[int, list[int]] = {}
    for number in range(min(board.steps.least(now, end), board.size)):
        if number not in board.outages or not board.outages[number].covers(now, end):
            moments[number] = [now, *sorted({at for at, *_ in board.planned.get(number, ()) if now < at < end})]
            nodes[number] = _Node(tuple([board.free_over(number, at, at + 1) for at in moments[number]]), {})
    for index, gang in enumerate(gangs):
        gpus = Counter[int]()
        for slot in gang.slots:
            gpus[slot.node] += slot.gpus
        for node in gpus.keys() & nodes.keys():
            nodes[node].frees[index] = tuple(gpus[node] if gang.hard_end > at else 0 for at in moments[node])
    return nodes


class _Offer(NamedTuple):
    """The gangs on a node that make room for pods at the least weight for each, and how many pods it has room for."""

    price: int
    weight: int
    gain: int
    most: int
    gangs: Gangs


_Bound: TypeAlias = tuple[int, Gangs]
"""The least weight of gangs that make the room, and gangs that would make it if their weights could be divided."""


class _Condition:
    """That some nodes together have room for `pods` pods of `size` GPUs.

    A gang's weight is divided among the nodes on which it would make room, among `need` of them at most: no choice of
    nodes that gives the pods needed is larger, so that the sum over nodes never exceeds what the gangs weigh.
    """

    def __init__(self, nodes: _Nodes, size: int, pods: int, weights: Sequence[int]) -> None:
        self._nodes, self._size = nodes, size
        self._pods = {key: node.least(()) // size for key, node in nodes.items()}
        self._need = pods - sum(self._pods.values())
        useful = [key for key, node in nodes.items() if node.least(node.frees) // size > self._pods[key]]
        self._on: dict[int, list[int]] = {}  # the useful nodes of each gang
        for key in useful if self._need > 0 else ():
            for index in nodes[key].frees:
                self._on.setdefault(index, []).append(key)
        self._share = {index: weights[index] // min(len(on), self._need) for index, on in self._on.items()}
        self._known: dict[tuple[int, Gangs, Gangs], _Offer | None] = {}
        # What nodes offer while nothing is decided.
        self._first = self._offers(useful, _NONE, _NONE) if self._need > 0 else []

    def missing(self, gone: Gangs) -> int:
        """Return how many pods have no room when some gangs are gone."""
        nodes, pods, size = self._nodes, self._pods, self._size
        return self._need - sum(nodes[key].least(gone) // size - pods[key] for key in self._touched(gone))

    def _touched(self, gangs: Gangs) -> set[int]:
        return {key for index in gangs for key in self._on.get(index, ())}

    def bound(self, gone: Gangs, kept: Gangs) -> _Bound | None:
        """Return what a branch costs at least beside what is gone, or None where there cannot be room."""
        left, weight, gangs = self.missing(gone), 0, _NONE
        if left <= 0:
            return 0, _NONE
        touched = self._touched(gone | kept)
        others = (pair for pair in self._first if pair[1] not in touched)
        for offer, _ in merge(self._offers(touched, gone, kept), others):
            taken = min(offer.most, left)
            weight, gangs, left = weight + offer.weight * taken // offer.gain, gangs | offer.gangs, left - taken
            if not left:
                return weight, gangs
        return None

    def _offers(self, keys: Iterable[int], gone: Gangs, kept: Gangs) -> list[tuple[_Offer, int]]:
        """Return what nodes offer in a branch, and which node does, the cheapest pods first."""
        return sorted((offer, key) for key in keys if (offer := self._offer(key, gone, kept)))

    def _offer(self, key: int, gone: Gangs, kept: Gangs) -> _Offer | None:
        """Return what a node offers in a branch; what is decided of gangs elsewhere does not change it."""
        there = self._nodes[key].frees
        decided = key, gone.intersection(there), kept.intersection(there)
        if decided not in self._known:
            self._known[decided] = self._find_offer(*decided)
        return self._known[decided]

    def _find_offer(self, key: int, gone: Gangs, kept: Gangs) -> _Offer | None:
        """Find a node's offer by dynamic programming over its free GPUs."""
        node, size = self._nodes[key], self._size
        before = node.least(gone) // size
        most = (before + self._need) * size  # more is of no use
        states: dict[tuple[int, ...], tuple[int, Gangs]] = {node.without(gone): (0, _NONE)}
        for index, frees in node.frees.items():
            if index not in gone and index not in kept:
                for free, (weight, gangs) in list(states.items()):
                    more = tuple([min(most, old + new) for old, new in zip(free, frees, strict=True)])
                    paid = weight + self._share[index]
                    if more not in states or paid < states[more][0]:
                        states[more] = paid, gangs | {index}
        gains = [(min(free) // size - before, *state) for free, state in states.items() if min(free) // size > before]
        if not gains:
            return None
        gain, weight, gangs = min(gains, key=lambda found: ((found[1] << 10) // found[0], -found[0]))
        return _Offer((weight << 10) // gain, weight, gain, max(gains)[0], gangs)


def _due(gangs: Sequence[Candidate], tenant: str, gpus: int, weights: Sequence[int]) -> _Condition:
    """Return that a tenant's gangs free so many GPUs: each counts as a node of its own, with nothing free."""
    nodes = {index: _Node((0,), {index: (gang.gpus,)}) for index, gang in enumerate(gangs) if gang.tenant == tenant}
    return _Condition(nodes, 1, gpus, weights)


@dataclass(frozen=True, kw_only=True)
class _Domain:
    """Nodes that may carry the gang together, and what has to hold for it to fit there."""

    pool: Pool
    shape: Shape
    nodes: _Nodes
    gangs: Sequence[Candidate]
    conditions: Sequence[_Condition]

    @cached_property
    def alike(self) -> Mapping[int, list[int]]:
        """The nodes by their free GPUs while no gang is gone."""
        alike: dict[int, list[int]] = {}
        for number, node in self.nodes.items():
            alike.setdefault(node.least(()), []).append(number)
        return alike

    def fits(self, gone: Gangs) -> bool:
        """Tell whether the gang fits when some gangs are gone."""
        if any(condition.missing(gone) > 0 for condition in self.conditions):
            return False
        return len(self.shape.pods) == 1 or self.place(gone, self.shape.pod_count) is not None

    def place(self, gone: Gangs, most: int | None = None) -> Slots | None:
        """Return the gang's slots when some gangs are gone.

        Of the nodes that these do not stand on, `most` are looked at of those with as much free.
        """
        touched = {slot.node for index in gone for slot in self.gangs[index].slots} & self.nodes.keys()
        free = [(self.nodes[number].least(gone), number) for number in touched]
        for gpus, numbers in self.alike.items():
            others = (number for number in numbers if number not in touched)
            free.extend((gpus, number) for number in islice(others, most))
        return place(sorted(pair for pair in free if pair[0] >= self.shape.least), self.shape, self.pool)

    def bound(self, gone: Gangs, kept: Gangs) -> _Bound | None:
        """Return what a branch costs at least beside what is gone, or None where the gang cannot fit."""
        weight, gangs = 0, _NONE
        for condition in self.conditions:
            bound = condition.bound(gone, kept)
            if bound is None:
                return None
            weight, gangs = max(weight, bound[0]), gangs | bound[1]
        return weight, gangs


def _needs(shape: Shape) -> Iterator[tuple[int, int]]:
    """Yield (size, pods): room for so many pods of this size is needed at least; with one pod set, it is enough."""
    counts = accumulate(pods for _, pods, _ in shape.pods)
    yield from zip((size for size, _, _ in shape.pods), counts, strict=True)


class _Branch(NamedTuple):
    """What its answers weigh at least, where the gang is to stand, and which gangs go and which stay."""

    weight: int
    order: int
    domain: _Domain
    gone: Gangs = _NONE
    kept: Gangs = _NONE


class _Search:
    """Branch and bound over all domains together, the least bound first."""

    def __init__(self, gangs: Sequence[Candidate], weights: Sequence[int]) -> None:
        self._gangs, self._weights = gangs, weights
        self._by_gpu = sorted(range(len(gangs)), key=lambda index: weights[index] // gangs[index].gpus)
        self._best: tuple[int, Gangs, _Domain] | None = None
        self._order = count()

    def run(self, domains: Iterable[_Domain], budget: int) -> Choice | None:
        """Look at each domain, then at branches until the answer is proven or the budget ends; return the answer."""
        branches = [_Branch(0, next(self._order), domain) for domain in domains]
        budget += len(branches)
        while budget > 0 and branches and not self._is_beaten(branches[0].weight):
            budget -= 1
            for branch in self._below(heappop(branches)):
                heappush(branches, branch)
        return self._choice(proven=not branches or self._is_beaten(branches[0].weight))

    def _choice(self, *, proven: bool) -> Choice | None:
        """Return the best answer found."""
        if self._best is None:
            return None
        _, gone, domain = self._best
        slots = domain.place(gone)
        assert slots is not None  # noqa: S101
        victims = [self._gangs[index] for index in sorted(gone)]
        cost = sum(gang.cost for gang in victims)
        return Choice(victims=tuple(gang.id for gang in victims), slots=slots, cost=cost, proven=proven)

    def _below(self, branch: _Branch) -> Iterator[_Branch]:
        """Try what a branch's bound picks as an answer; yield the two branches below, if they may hold a better one."""
        _, _, domain, gone, kept = branch
        bound = domain.bound(gone, kept)
        if bound is None:
            return
        weight, picked = self._weigh(gone) + bound[0], bound[1]
        if self._is_beaten(weight) or not self._try(domain, gone | picked, kept):
            return
        undecided = picked - gone or frozenset(range(len(self._gangs))) - gone - kept
        if undecided:
            heaviest = frozenset({max(undecided, key=lambda index: self._weights[index])})
            yield _Branch(weight, next(self._order), domain, gone | heaviest, kept)
            yield _Branch(weight, next(self._order), domain, gone, kept | heaviest)

    def _is_beaten(self, weight: int) -> bool:
        """Tell whether no answer of so much or more is better than the best."""
        return self._best is not None and weight + _UNIT > self._best[0]

    def _weigh(self, gangs: Gangs) -> int:
        return sum(self._weights[index] for index in gangs)

    def _try(self, domain: _Domain, picked: Gangs, kept: Gangs) -> bool:
        """Tell whether a branch holds an answer at all: what is picked, and others that are cheap by the GPU."""
        others = [index for index in self._by_gpu if index not in picked and index not in kept]
        gangs, added = picked, 0
        while not domain.fits(gangs):
            if added >= len(others):
                return False
            added = 2 * added or 1
            gangs = picked.union(others[:added])
        for index in sorted(gangs, key=lambda index: -self._weights[index]):
            if domain.fits(gangs - {index}):
                gangs -= {index}
        weight = self._weigh(gangs)
        if self._best is None or weight < self._best[0]:
            self._best = weight, gangs, domain
        return True
