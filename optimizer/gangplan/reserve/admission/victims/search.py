"""Which gangs to preempt for one beneficiary: the cheapest set of whole gangs whose slots suffice. No clock in here.

A best-first branch and bound over the gangs that matter. A bound splits each gang's cost over the nodes that it would
make room on (`covering`), and the gangs that the bound picks are tried as an answer each time, so that an answer is at
hand when the budget of bounds ends before the proof.

Source: Land and Doig, "An Automatic Method of Solving Discrete Programming Problems", Econometrica 1960.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate, islice

from gangplan.reserve.admission.victims.bounds import Bound, Branch, Condition, Room
from gangplan.reserve.moments import SECOND
from gangplan.reserve.space import Board, Shape, Slots, place, width_of
from gangplan.types import require_at_least

BUDGET = 300
"""So many bounds are worked out before the best answer so far is taken as it is."""

_COST = 1 << 20  # costs are told apart to a millionth
_UNIT = 1 << 16  # weights are whole multiples of it; what splitting a weight loses is less


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
    blocked: Collection[int] = (),
    must_free: Mapping[str, int] | None = None,
    budget: int = BUDGET,
) -> Choice | None:
    """Return the cheapest candidates whose slots, with what is free, hold the gang from `now` up to `end`.

    What others run or were promised stays as it is. Cost is the sum over the victims; of equals the fewest victims,
    then the fewest GPUs, then the youngest grants. `blocked` nodes are not used, nor those that are out; `must_free`
    names GPUs that the victims must free of tenants besides. None of the victims could be left out. None: not even all
    candidates suffice.
    """
    gangs = sorted((one for one in candidates if one.hard_end > now), key=lambda one: (one.cost, one.id))
    limit = min(board.steps.least(now, end), board.size)
    nodes = [node for node in range(limit) if node not in board.out and node not in blocked]
    room = Room(board, nodes, [(one.slots, one.hard_end) for one in gangs], now, end)
    search = _Search(gangs, must_free or {}, budget)
    for domain in _domains(board, shape, nodes):
        search.open(_Domain(room, domain, shape, search.weights))
    search.run()
    return search.choice()


def _domains(board: Board, shape: Shape, nodes: Sequence[int]) -> Iterable[Sequence[int]]:
    """Return the nodes that may carry the gang together: all of them, or those of each required domain."""
    if shape.must is None:
        return (nodes,)
    width = width_of(board.pool, shape.must)
    domains: dict[int, list[int]] = {}
    for node in nodes:
        domains.setdefault(node // width, []).append(node)
    return domains.values()


def _weights(gangs: Sequence[Candidate]) -> list[int]:
    """Return whole numbers that rank sets of gangs by cost, number, GPUs and age when they are added up."""
    youngest = max((one.granted for one in gangs), default=0)
    weights: list[int] = []
    for one in gangs:
        counted = (round(one.cost * _COST) << 16) + 1
        weights.append(((counted << 24) + one.gpus << 40) + (youngest - one.granted) // SECOND << 16)
    return weights


class _Domain:
    """Nodes that may carry the gang together, and what has to hold for it to fit there."""

    def __init__(self, room: Room, nodes: Sequence[int], shape: Shape, weights: Sequence[int]) -> None:
        self.room, self.shape = room, shape
        self._own = frozenset(nodes)
        self._by_free: dict[int, list[int]] = {}
        for node in nodes:
            self._by_free.setdefault(room.base[node], []).append(node)
        self.conditions = [Condition(room, nodes, size, count, weights) for size, count in _needs(shape)]

    def fits(self, gone: int, touched: frozenset[int]) -> bool:
        """Tell whether the gang fits when some gangs, which stand on `touched`, are gone."""
        if not all(condition.met(gone, touched) for condition in self.conditions):
            return False
        return len(self.shape.pods) == 1 or self.place(gone, touched, self.shape.pod_count) is not None

    def place(self, gone: int, touched: frozenset[int], most: int | None = None) -> Slots | None:
        """Return the gang's slots when some gangs, which stand on `touched`, are gone.

        Of other nodes with as much free, `most` are looked at: the gang never stands on more than it has pods.
        """
        free, least = self.room.free, self.shape.least
        found = [(free(node, gone), node) for node in touched if node in self._own]
        for gpus, alike in self._by_free.items():
            others = (node for node in alike if node not in touched)
            found.extend((gpus, node) for node in islice(others, most))
        return place(sorted(one for one in found if one[0] >= least), self.shape, self.room.board.pool)


def _needs(shape: Shape) -> Iterator[tuple[int, int]]:
    """Yield (size, count): room for so many pods of this size is needed at least; with one pod set, it is enough."""
    counts = accumulate(count for _, count, _ in shape.pods)
    yield from ((size, count) for (size, _, _), count in zip(shape.pods, counts, strict=True))
    if len(shape.pods) > 1:
        yield 1, shape.gpus


@dataclass(order=True)
class _Node:
    """A branch, the least that its answers weigh, and the gang to decide on next."""

    weight: int
    order: int
    domain: _Domain = field(compare=False)
    branch: Branch = field(compare=False)
    split: int | None = field(compare=False)


class _Search:
    """Branch and bound over all domains together, the least bound first."""

    def __init__(self, gangs: Sequence[Candidate], must_free: Mapping[str, int], budget: int) -> None:
        self.gangs = gangs
        self.weights = _weights(gangs)
        self._by_gpu = sorted(range(len(gangs)), key=lambda index: self.weights[index] // gangs[index].gpus)
        self._due = _Due(gangs, self.weights, must_free)
        self._stands = [frozenset(slot.node for slot in one.slots) for one in gangs]
        self._budget = budget
        self._heap: list[_Node] = []
        self._order = 0
        self._best: tuple[int, int, _Domain] | None = None

    def open(self, domain: _Domain) -> None:
        """Take in a domain, with nothing decided."""
        self._budget += 1
        self._visit(domain, Branch(), 0)

    def run(self) -> None:
        """Branch until the answer is proven, or the budget ends."""
        while self._heap and self._budget > 0 and not self._beaten(self._heap[0].weight):
            node = heappop(self._heap)
            if node.split is not None:
                (gone, kept, touched), bit = node.branch, 1 << node.split
                touched |= self._stands[node.split]
                self._visit(node.domain, Branch(gone | bit, kept, touched), node.weight)
                self._visit(node.domain, Branch(gone, kept | bit, touched), node.weight)

    def choice(self) -> Choice | None:
        """Return the best answer found."""
        if self._best is None:
            return None
        _, gone, domain = self._best
        slots = domain.place(gone, self._stand(gone))
        assert slots is not None  # noqa: S101
        victims = [self.gangs[index] for index in _each(gone)]
        proven = not self._heap or self._beaten(self._heap[0].weight)
        cost = sum(one.cost for one in victims)
        return Choice(victims=tuple(one.id for one in victims), slots=slots, cost=cost, proven=proven)

    def _beaten(self, weight: int) -> bool:
        """Tell whether no answer of so much or more is better than the best."""
        return self._best is not None and weight + _UNIT > self._best[0]

    def _visit(self, domain: _Domain, branch: Branch, least: int) -> None:
        """Work out a branch's bound, try what it picks as an answer, and keep the branch where it may hold a better."""
        self._budget -= 1 + max(condition.need for condition in domain.conditions) // 8
        picks = self._picks(domain, branch)
        if picks is None:
            return
        weight = max(least, self._weigh(branch.gone) + max(bound.weight for bound in picks))
        if self._beaten(weight):
            return
        picked = branch.gone
        for bound in picks:
            for _, gangs in bound.picks:
                picked |= gangs
        self._budget -= picked.bit_count() // 4  # what trying it costs
        if self._try(domain, picked) or self._complete(domain, branch, picked):
            split = self._split(domain, branch, max(picks), picked)
            if split is not None and not self._beaten(weight):
                self._order += 1
                heappush(self._heap, _Node(weight, self._order, domain, branch, split))

    def _picks(self, domain: _Domain, branch: Branch) -> list[Bound] | None:
        """Return the bounds of a branch, or None where one cannot be had."""
        bounds = [self._due.bound(branch), *(condition.bound(branch) for condition in domain.conditions)]
        found = [bound for bound in bounds if bound is not None]
        return found if len(found) == len(bounds) else None

    def _weigh(self, gangs: int) -> int:
        return sum(self.weights[index] for index in _each(gangs))

    def _stand(self, gangs: int) -> frozenset[int]:
        """Return the nodes that some gangs stand on."""
        return frozenset[int]().union(*(self._stands[index] for index in _each(gangs)))

    def _suffice(self, domain: _Domain, gangs: int) -> bool:
        return self._due.met(gangs) and domain.fits(gangs, self._stand(gangs))

    def _complete(self, domain: _Domain, branch: Branch, picked: int) -> bool:
        """Tell whether a branch holds an answer at all; the first one is made of gangs that are cheap by the GPU."""
        free = [index for index in self._by_gpu if not (picked | branch.kept) >> index & 1]
        if self._best is not None:
            return self._suffice(domain, picked | _set(free))
        count = 1
        while count < len(free) and not self._suffice(domain, picked | _set(free[:count])):
            count *= 2
        return self._try(domain, picked | _set(free[:count]))

    def _try(self, domain: _Domain, gangs: int) -> bool:
        """Tell whether some gangs suffice; then leave out those that are not needed, and keep the best answer."""
        if not self._suffice(domain, gangs):
            return False
        for index in sorted(_each(gangs), key=lambda index: -self.weights[index]):
            if self._suffice(domain, gangs & ~(1 << index)):
                gangs &= ~(1 << index)
        weight = self._weigh(gangs)
        if self._best is None or weight < self._best[0]:
            self._best = weight, gangs, domain
        return True

    def _split(self, domain: _Domain, branch: Branch, bound: Bound, picked: int) -> int | None:
        """Return the gang to decide on: of those picked, the one that the bound counts least of."""
        missing = {index: self.weights[index] for index in _each(picked & ~branch.gone)}
        for node, gangs in bound.picks:
            for index in _each(gangs):
                missing[index] -= domain.conditions[0].split.get(index, 0) if node >= 0 else self.weights[index]
        if missing:
            return max(missing, key=lambda index: missing[index])
        decided = branch.gone | branch.kept
        return next((index for index in range(len(self.gangs)) if not decided >> index & 1), None)


class _Due:
    """GPUs that the victims must free of tenants, wherever they stand."""

    def __init__(self, gangs: Sequence[Candidate], weights: Sequence[int], must_free: Mapping[str, int]) -> None:
        self._must = {tenant: gpus for tenant, gpus in must_free.items() if gpus > 0}
        self._gpus = [one.gpus for one in gangs]
        self._weights = weights
        self._of: dict[str, list[int]] = {tenant: [] for tenant in self._must}  # the cheapest by the GPU first
        for index in sorted(range(len(gangs)), key=lambda index: weights[index] // self._gpus[index]):
            self._of.get(gangs[index].tenant, []).append(index)

    def met(self, gone: int) -> bool:
        """Tell whether some gangs free enough."""
        return all(self._missing(tenant, gone) <= 0 for tenant in self._must)

    def _missing(self, tenant: str, gone: int) -> int:
        return self._must[tenant] - sum(self._gpus[index] for index in self._of[tenant] if gone >> index & 1)

    def bound(self, branch: Branch) -> Bound | None:
        """Return what the rest costs at least, where GPUs can be freed of a gang in part; None: it cannot be freed."""
        total, picked = 0, 0
        for tenant, indices in self._of.items():
            left = self._missing(tenant, branch.gone)
            for index in indices:
                if left <= 0:
                    break
                if not (branch.gone | branch.kept) >> index & 1:
                    total += self._weights[index] * min(left, self._gpus[index]) // self._gpus[index]
                    left -= self._gpus[index]
                    picked |= 1 << index
            if left > 0:
                return None
        return Bound(total, ((-1, picked),))


def _set(indices: Iterable[int]) -> int:
    """Return a set of gangs by their numbers."""
    return sum(1 << index for index in indices)


def _each(gangs: int) -> Iterator[int]:
    """Yield the numbers of the gangs of a set."""
    while gangs:
        low = gangs & -gangs
        yield low.bit_length() - 1
        gangs ^= low
