"""Seeded questions of whom to preempt, on boards that are full.

| shape | what runs | what is asked for |
|---|---|---|
| whole | gangs of one to eight whole nodes | whole nodes |
| fractions | gangs of one or two pods of one to four GPUs | whole nodes |
| mixed | every fourth gang spans up to eight nodes, the others are as in fractions | whole nodes |
| pairs | as mixed | whole nodes and pods of three GPUs |
| quota | as mixed, of three tenants | whole nodes, and GPUs of one tenant besides |
| rack | as mixed, in racks of eight nodes | whole nodes in one rack |
| promised | as mixed, where each fourth node is promised to others once gangs end | whole nodes |

A gang costs the GPU-seconds of its work so far: minutes to days, lognormal. One gang in ten cannot be preempted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gangplan.reserve.admission.choose_victims import BUDGET, Candidate, Choice, choose
from gangplan.reserve.space.board import Board
from gangplan.reserve.space.packing import Shape, Slot
from gangplan.reserve.space.steps import Steps
from gangplan.testing import a_pool
from gangplan.types import Level

SHAPES = ("whole", "fractions", "mixed", "pairs", "quota", "rack", "promised")
GPUS = 8
RACK = 8
HOUR = 3_600_000_000
NOW = 100 * HOUR
END = NOW + 4 * HOUR
TENANTS = ("ann", "bob", "cyd")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A full board, a gang that is to start on it, and the gangs that may be preempted for it."""

    board: Board
    shape: Shape
    candidates: list[Candidate]
    must_free: dict[str, int]

    def ask(self, budget: int = BUDGET) -> Choice | None:
        """Choose victims within a budget of branches."""
        return choose(self.board, self.shape, self.candidates, NOW, END, must_free=self.must_free, budget=budget)

    @cached_property
    def on(self) -> dict[int, list[tuple[Candidate, int]]]:
        """The candidates on each node, and their GPUs there."""
        on: dict[int, list[tuple[Candidate, int]]] = {node: [] for node in range(self.board.size)}
        for gang in self.candidates:
            gpus = Counter[int]()
            for slot in gang.slots:
                gpus[slot.node] += slot.gpus
            for node, count in gpus.items():
                on[node].append((gang, count))
        return on

    @cached_property
    def free(self) -> dict[int, list[tuple[int, int]]]:
        """Each node's free GPUs at the moments at which it may be short: now, and each promised start."""
        starts = {node: [at for at, *_ in plans if NOW < at < END] for node, plans in self.board.planned.items()}
        moments = {node: [NOW, *starts.get(node, ())] for node in range(self.board.size)}
        return {node: [(at, self.board.free_over(node, at, at + 1)) for at in moments[node]] for node in moments}

    def domains(self) -> list[range]:
        """Return the nodes that may carry the gang together: all, or those of each rack."""
        width = RACK if self.shape.must else self.board.size
        return [range(start, min(start + width, self.board.size)) for start in range(0, self.board.size, width)]


def question(shape: str, nodes: int, seed: int) -> Question:
    """Draw a question of a shape on so many nodes."""
    dice = random.Random(f"{shape}-{nodes}-{seed}")
    board = Board(a_pool(gpus_per_node=GPUS, max_nodes=nodes, nodes_per_rack=RACK), Steps([(0, nodes)]))
    candidates: list[Candidate] = []
    left = [GPUS] * nodes
    while any(left):
        gang = _gang(dice, shape, len(candidates), left)
        board.hold(gang.id, gang.slots, gang.hard_end)
        candidates.append(gang)
    if shape == "promised":
        _promise(board, range(0, nodes, 4))
    wanted = dice.randint(1, max(1, min(nodes, RACK * 2 if shape != "rack" else RACK) // 2))
    pods = ((GPUS, wanted, 0), (3, wanted, 1)) if shape == "pairs" else ((GPUS, wanted, 0),)
    return Question(
        board=board,
        shape=Shape(pods, Level.RACK if shape == "rack" else None, True, sum(size * count for size, count, _ in pods)),
        candidates=[gang for gang in candidates if dice.random() < 0.9],
        must_free={"ann": dice.randint(1, GPUS * wanted)} if shape == "quota" else {},
    )


def _promise(board: Board, nodes: Sequence[int]) -> None:
    """Promise to others what gangs that end in an hour leave free on some nodes."""
    later = NOW + 2 * HOUR
    for node in nodes:
        if gpus := board.free_over(node, later, later + 1):
            board.plan(f"promise-{node}", (Slot(node, 0, 1, gpus),), later, END + HOUR)


def _gang(dice: random.Random, shape: str, number: int, left: list[int]) -> Candidate:
    """Let a gang run on what is left of the first nodes that have room, and take it from there."""
    free = [node for node, gpus in enumerate(left) if gpus]
    spans = shape == "whole" or (shape != "fractions" and dice.random() < 0.25)
    size = GPUS if shape == "whole" else dice.choice([1, 2, 4])
    pods = dice.randint(1, 8) if spans else dice.randint(1, 2)
    slots: list[Slot] = []
    for node in dice.sample(free, min(pods, len(free))):
        gpus = min(size, left[node])
        left[node] -= gpus
        slots.append(Slot(node, 0, 1, gpus))
    ran = dice.lognormvariate(8, 1.5)  # seconds: 50 minutes in the median
    return Candidate(
        id=f"g{number}",
        slots=tuple(slots),
        hard_end=NOW + dice.choice([1, 3, 8, 24]) * HOUR,
        cost=ran * sum(slot.gpus for slot in slots),
        tenant=dice.choice(TENANTS),
        granted=NOW - round(ran * 1e6),
    )
