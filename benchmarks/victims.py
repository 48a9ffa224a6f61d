"""`make bench-victims`: what the victims cost that `choose` finds, over the cheapest there are, and how long it takes.

The cheapest are found by HiGHS as a mixed-integer program, which shares no code with `choose`. Two peers stand beside
it: the first bound of `choose` alone (a budget of 0: the cheapest nodes, filled back), and a greedy choice in three
orders, filled back, one of which goes node by node and looks again after each. Every time is the processor's.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence, Set as AbstractSet

import highspy

from benchmarks.parts.figures import Figure, report
from benchmarks.parts.victims import GPUS, SHAPES, Question, question
from gangplan.reserve.admission.choose_victims import BUDGET, Candidate
from gangplan.reserve.space.packing import fill

SEEDS = {8: 12, 32: 12, 128: 12, 512: 4}
"""Questions of each shape, by the number of nodes."""


# ---------------------------------------------------------------- the cheapest, by mixed-integer program


def cheapest(asked: Question) -> float | None:
    """Return what the cheapest victims cost; None: not even all candidates suffice."""
    return min((cost for nodes in asked.domains() if (cost := _cheapest_on(asked, nodes)) is not None), default=None)


def _cheapest_on(asked: Question, nodes: Sequence[int]) -> float | None:
    """Return the same where the gang has to stand on some of the nodes.

    A 0-1 variable for each candidate, a whole one for each node and pod set: the pods that stand there.
    """
    program = highspy.Highs()
    program.setOptionValue("output_flag", False)
    program.setOptionValue("mip_rel_gap", 1e-6)
    gone = {gang.id: program.addBinary(obj=gang.cost) for gang in asked.candidates}
    pods = {(node, at): program.addIntegral(ub=GPUS // size) for node in nodes for size, _, at in asked.shape.pods}
    for _, count, at in asked.shape.pods:
        program.addConstr(sum(pods[node, at] for node in nodes) >= count)
    for node in nodes:
        used = sum(size * pods[node, at] for size, _, at in asked.shape.pods)
        for moment, free in asked.free[node]:
            freed = (gpus * gone[gang.id] for gang, gpus in asked.on[node] if gang.hard_end > moment)
            program.addConstr(used - sum(freed) <= free)
    for tenant, gpus in asked.must_free.items():
        program.addConstr(sum(g.gpus * gone[g.id] for g in asked.candidates if g.tenant == tenant) >= gpus)
    program.minimize()
    if program.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    values = program.getSolution().col_value
    return sum(gang.cost for gang in asked.candidates if values[gone[gang.id].index] > 0.5)


# ---------------------------------------------------------------- a greedy choice with fill-back


def greedy(asked: Question) -> float | None:
    """Return what victims cost that are taken one by one until they suffice, then left out where they need not go."""
    answers = [cost for nodes in asked.domains() if (cost := _Greedy(asked, nodes).cost()) is not None]
    return min(answers, default=None)


class _Greedy:
    """The best of three orders: the cheapest first, the cheapest by the GPU first, and node by node."""

    def __init__(self, asked: Question, nodes: Sequence[int]) -> None:
        self._asked, self._nodes = asked, nodes
        self._gangs = {gang.id: gang for gang in asked.candidates}
        self._stands = {gang.id: {slot.node for slot in gang.slots} & set(nodes) for gang in asked.candidates}
        self._free = {node: self.free(node, frozenset()) for node in nodes}

    def cost(self) -> float | None:
        """Return what the best of the answers costs."""
        answers = (self.filled_back(gone) for gone in (*self.by_price(), self.by_node()) if self.fits(gone))
        return min((sum(self._gangs[id].cost for id in gone) for gone in answers), default=None)

    def free(self, node: int, gone: AbstractSet[str]) -> int:
        """Return the GPUs of a node that stay free when some gangs are gone."""
        freed = [(gang.hard_end, gpus) for gang, gpus in self._asked.on[node] if gang.id in gone]
        return min(free + sum(gpus for end, gpus in freed if end > at) for at, free in self._asked.free[node])

    def fits(self, gone: AbstractSet[str]) -> bool:
        """Tell whether the gang fits, and enough is freed of each tenant, when some gangs are gone."""
        for tenant, gpus in self._asked.must_free.items():
            if sum(self._gangs[id].gpus for id in gone if self._gangs[id].tenant == tenant) < gpus:
                return False
        free = self._free | {node: self.free(node, gone) for node in self._touched(gone)}
        return fill(sorted((gpus, node) for node, gpus in free.items()), self._asked.shape) is not None

    def _touched(self, gangs: Iterable[str]) -> set[int]:
        return set[int]().union(*(self._stands[id] for id in gangs))

    def by_price(self) -> Iterator[AbstractSet[str]]:
        """Yield the first gangs that suffice of each of two orders, or all of them."""
        near = [gang for gang in self._gangs.values() if self._asked.must_free or self._stands[gang.id]]
        keys: tuple[Callable[[Candidate], float], ...] = (lambda gang: gang.cost, lambda gang: gang.cost / gang.gpus)
        for key in keys:
            ranked = [gang.id for gang in sorted(near, key=key)]
            yield set(ranked[: bisect_left(range(len(ranked)), 1, key=lambda count: self.fits(set(ranked[:count])))])

    def by_node(self) -> AbstractSet[str]:
        """Return gangs that suffice: each time those that make room for one more pod where that costs least."""
        gone = self._of_tenants()
        offers = {node: self._one_more_pod(node, gone) for node in self._nodes}
        while not self.fits(gone) and any(offers.values()):
            taken = min((offer for offer in offers.values() if offer), key=self._cost)
            gone |= taken
            for node in self._touched(taken):
                offers[node] = self._one_more_pod(node, gone)
        return gone

    def _of_tenants(self) -> set[str]:
        """Return gangs that free enough of each tenant, the cheapest by the GPU first."""
        gone = set[str]()
        for tenant, gpus in self._asked.must_free.items():
            for gang in sorted(self._gangs.values(), key=lambda gang: gang.cost / gang.gpus):
                if gang.tenant == tenant and gpus > 0:
                    gone.add(gang.id)
                    gpus -= gang.gpus
        return gone

    def _one_more_pod(self, node: int, gone: AbstractSet[str]) -> set[str]:
        """Return gangs of a node that make room for one more pod: the cheapest by the GPU there, none without need."""
        size, taken = self._asked.shape.pods[0][0], set[str]()
        pods = self.free(node, gone) // size + 1
        for gang, _ in sorted(self._asked.on[node], key=lambda pair: pair[0].cost / pair[1]):
            if gang.id not in gone and self.free(node, gone | taken) // size < pods:
                taken.add(gang.id)
        if self.free(node, gone | taken) // size < pods:
            return set()
        return self._left_out(taken, lambda rest: self.free(node, gone | rest) // size >= pods)

    def filled_back(self, gone: AbstractSet[str]) -> AbstractSet[str]:
        """Return gangs without those that are not needed."""
        return self._left_out(set(gone), self.fits)

    def _left_out(self, gone: set[str], suffice: Callable[[set[str]], bool]) -> set[str]:
        """Leave out what is not needed, the dearest first."""
        for id in sorted(gone, key=lambda id: -self._gangs[id].cost):
            if suffice(gone - {id}):
                gone = gone - {id}
        return gone

    def _cost(self, gangs: Iterable[str]) -> float:
        return sum(self._gangs[id].cost for id in gangs)


# ---------------------------------------------------------------- the figures


class Course:
    """What one way of choosing comes to: costs over the cheapest's, and milliseconds."""

    def __init__(self, name: str, way: Callable[[Question], float | None]) -> None:
        self.name, self._way = name, way
        self.over: list[float] = []
        self.ms: dict[int, list[float]] = {nodes: [] for nodes in SEEDS}

    def ask(self, asked: Question, least: float | None) -> None:
        """Let it choose, and hold it against the cheapest cost."""
        began = time.process_time()
        cost = self._way(asked)
        self.ms[asked.board.size].append((time.process_time() - began) * 1000)
        assert (cost is None) == (least is None)
        if cost is not None and least is not None:
            assert cost >= least * (1 - 1e-5)
            self.over.append(cost / least if least else 1.0)

    def figures(self, *, mean: str = "", p95: str = "") -> list[Figure]:
        """Return its figures, and hold them against bars."""
        name, peer = self.name, f"{len(self.over)} questions; 1: the cheapest"
        times = ", ".join(f"{nodes} nodes {statistics.mean(ms):.1f}" for nodes, ms in self.ms.items())
        worst = max(ms for each in self.ms.values() for ms in each)
        return [
            Figure(name=f"{name}_over_cheapest_mean", value=statistics.mean(self.over), unit="", bar=mean, peer=peer),
            Figure(name=f"{name}_over_cheapest_p95", value=statistics.quantiles(self.over, n=20)[-1], unit="", bar=p95),
            Figure(name=f"{name}_over_cheapest_worst", value=max(self.over), unit=""),
            Figure(name=f"{name}_worst_ms", value=worst, unit="ms", peer=f"means: {times}"),
        ]


def _cost_within(budget: int) -> Callable[[Question], float | None]:
    """Return `choose` with a budget of branches, as a way that gives a cost."""

    def way(asked: Question) -> float | None:
        choice = asked.ask(budget)
        return None if choice is None else choice.cost

    return way


def main() -> None:
    """Measure and report."""
    chosen, first = Course("choose", _cost_within(BUDGET)), Course("first_bound", _cost_within(0))
    peers = [Course("greedy", greedy)]
    for nodes, seeds in SEEDS.items():
        for shape in SHAPES:
            for seed in range(seeds):
                asked = question(shape, nodes, seed)
                least = cheapest(asked)
                for course in (chosen, first, *peers):
                    course.ask(asked, least)
    figures = chosen.figures(mean="<= 1.01", p95="<= 1.05")
    report("victims", figures + [figure for course in (first, *peers) for figure in course.figures()])


if __name__ == "__main__":
    main()
