"""A pool's board against brute force: small boards in whole moments, every start and every packing tried out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, example, given, strategies as st
from tests.effort import examples
from tests.reserve.support.packs import packs

from gangplan.reserve.admission.entry import shape_of
from gangplan.reserve.space.board import Board
from gangplan.reserve.space.outage import Span
from gangplan.reserve.space.packing import Shape, Slot, Slots, ever_fits
from gangplan.reserve.space.steps import Steps
from gangplan.testing import a_pool, a_request
from gangplan.types import Level, PodSet, Pool, Topology

END = 24  # nothing changes from here on
OUTWARD = (Level.NODE, Level.NVLINK, Level.RACK)

# ---------------------------------------------------------------- a board as plain facts


@dataclass
class Facts:
    """What stands on a pool's nodes, as a list, and what follows from it by counting."""

    pool: Pool
    steps: tuple[tuple[int, int], ...]
    seats: dict[str, tuple[Slots, int, int]] = field(default_factory=dict)  # holder: slots, start, end
    out: dict[int, Span] = field(default_factory=dict[int, Span])

    def nodes(self, start: int, end: int) -> int:
        """Return the nodes that are there from `start` up to `end`."""
        counts = [max([(0, 0, 0), *((at, 1, n) for at, n in self.steps if at <= t)])[2] for t in range(start, end)]
        return min(counts)

    def free(self, node: int, start: int, end: int) -> int:
        """Return the GPUs of a node that no seat takes from `start` up to `end`, whether or not the node is there."""
        return self.pool.slots_per_node - max(
            sum(s.gpus for slots, a, b in self.seats.values() if a <= t < b for s in slots if s.node == node)
            for t in range(start, min(end, max(END, start) + 1))
        )

    def to_give(self, start: int, end: int) -> dict[int, int]:
        """Return what each node that may take a gang has to give from `start` up to `end`."""
        nodes = range(self.nodes(start, end))
        return {node: self.free(node, start, end) for node in nodes if not self.gone(node, start, end)}

    def gone(self, node: int, start: int, end: int) -> bool:
        """Tell whether a node is out at any moment from `start` up to `end`."""
        out = self.out.get(node)
        return out is not None and any(out.begin <= t < out.back for t in range(start, end))

    def domain(self, node: int, level: Level) -> int:
        """Return the number of a node's domain."""
        return (
            node
            // {Level.NODE: 1, Level.NVLINK: self.pool.nodes_per_nvlink, Level.RACK: self.pool.nodes_per_rack}[level]
        )

    def fits(
        self, pods: Iterable[tuple[int, int]], start: int, end: int, within: Sequence[tuple[Level, int | None]]
    ) -> bool:
        """Tell whether pods (GPUs, how many) fit together in any domain, or the one given, of a level."""
        give = self.to_give(start, end)
        (level, only), *_ = within or [(None, None)]
        groups: dict[int, list[int]] = {}
        for node, gpus in give.items():
            domain = 0 if level is None else self.domain(node, level)
            if only is None or domain == only:
                groups.setdefault(domain, []).append(gpus)
        sizes = tuple(sorted((size for size, count in pods for _ in range(count)), reverse=True))
        return any(packs(tuple(sorted(group)), sizes) for group in groups.values())


def pods_of(shape: Shape) -> list[tuple[int, int]]:
    """Return (GPUs per pod, pods)."""
    return [(size, count) for size, count, _ in shape.pods]


def assert_whole(shape: Shape, slots: Slots) -> None:
    """Every pod of every pod set has its GPUs, once."""
    for size, count, pod_set in shape.pods:
        mine = [slot for slot in slots if slot.pod_set == pod_set]
        assert sum(slot.pods for slot in mine) == count
        assert all(slot.gpus == slot.pods * size and slot.pods for slot in mine)
    assert sum(slot.gpus for slot in slots) == shape.gpus


def assert_free(facts: Facts, slots: Slots, start: int, end: int) -> None:
    """The slots take no more of any node than it has to give."""
    give = facts.to_give(start, end)
    for node in {slot.node for slot in slots}:
        assert sum(slot.gpus for slot in slots if slot.node == node) <= give.get(node, 0)


def assert_close(facts: Facts, shape: Shape, slots: Slots, start: int, end: int) -> None:
    """A gang stands in one domain of the level it wishes; where none has room, of the next one outward that has."""
    if shape.level is None:
        return
    for level in OUTWARD[OUTWARD.index(shape.level) :]:
        if shape.required or facts.fits(pods_of(shape), start, end, [(level, None)]):
            assert len({facts.domain(slot.node, level) for slot in slots}) == 1, f"not in one {level}: {slots}"
            return


# ---------------------------------------------------------------- both side by side


@dataclass
class Pair:
    """A board and the facts, changed and asked alike."""

    facts: Facts
    board: Board
    count: int = 0

    @classmethod
    def of(cls, pool: Pool, steps: tuple[tuple[int, int], ...]) -> Pair:
        """Return an empty pair."""
        return cls(Facts(pool, steps), Board(pool, Steps(steps)))

    def hold(self, slots: Slots, end: int) -> None:
        """Let a gang run, where its slots are free of others, calendar or not."""
        if all(self.facts.free(s.node, 0, end) >= s.gpus for s in slots) and not self.facts.out.keys() & {
            s.node for s in slots
        }:
            self._seat(f"run{self.count}", slots, 0, end)

    def plan(self, slots: Slots, start: int, end: int) -> None:
        """Promise slots, where they are free."""
        if self.board.is_free(slots, start, end):
            self._seat(f"plan{self.count}", slots, start, end)

    def _seat(self, holder: str, slots: Slots, start: int, end: int) -> None:
        self.count += 1
        self.facts.seats[holder] = (slots, start, end)
        self.board.hold(holder, slots, end) if holder[0] == "r" else self.board.plan(holder, slots, start, end)

    def leave(self, which: int) -> None:
        """Take one of all off the board."""
        if self.facts.seats:
            holder = sorted(self.facts.seats)[which % len(self.facts.seats)]
            slots, start, end = self.facts.seats.pop(holder)
            self.board.drop(holder, slots, end) if holder[0] == "r" else self.board.unplan(holder, slots, start, end)

    def set_out(self, nodes: dict[int, Span]) -> None:
        """Let some nodes take no gang in some time."""
        self.facts.out = nodes
        self.board.set_out(nodes)

    # ------------------------------------------------------------ questions

    def within(self, shape: Shape) -> list[tuple[Level, int | None]]:
        """Return where the gang must stand, if anywhere."""
        return [(shape.level, None)] if shape.required and shape.level else []

    def fit_now(self, shape: Shape, length: int) -> None:
        """The gang starts now if, and only if, some packing has it."""
        found = self.board.fit_now(shape, 0, length)
        assert (found is not None) == self.facts.fits(pods_of(shape), 0, length, self.within(shape))
        if found is not None:
            assert_whole(shape, found)
            assert_free(self.facts, found, 0, length)
            assert_close(self.facts, shape, found, 0, length)
        event(f"now: {found is not None}")

    def earliest(self, shape: Shape, length: int, after: int, until: int) -> None:
        """The gang starts at the first moment at which some packing has it; again from later on, the same."""
        for first in (after, after + 1, after + 4):
            fits = (t for t in range(first, min(until, END + 1) + 1) if self._fits(shape, t, t + length))
            expected, found = next(fits, None), self.board.earliest(shape, length, first, until)
            assert (None if found is None else found[0]) == expected
            if found is not None:
                assert_whole(shape, found[1])
                assert_free(self.facts, found[1], found[0], found[0] + length)
                assert_close(self.facts, shape, found[1], found[0], found[0] + length)
            event(f"earliest: {'never' if expected is None else 'at once' if expected == first else 'later'}")

    def _fits(self, shape: Shape, start: int, end: int) -> bool:
        return self.facts.fits(pods_of(shape), start, end, self.within(shape))

    def grow(self, shape: Shape, which: int) -> None:
        """More pods of a running gang fit if some packing in its own domain, or where it may go, has them; else not."""
        gangs = sorted(holder for holder in self.facts.seats if holder[0] == "r")
        if not gangs:
            return
        slots, _, end = self.facts.seats[gangs[which % len(gangs)]]
        found = self.board.fit_more(slots, shape, 0, end)
        levels = OUTWARD[OUTWARD.index(shape.level) :] if shape.level else ()
        own = [(level, {self.facts.domain(s.node, level) for s in slots}) for level in levels]
        closest = next(
            (level for level, at in own if len(at) == 1 and self.facts.fits(pods_of(shape), 0, end, [(level, *at)])),
            None,
        )
        if shape.required and shape.level:
            assert (found is not None) == (closest is shape.level)
        else:
            assert (found is not None) == self.facts.fits(pods_of(shape), 0, end, [])
        if found is not None:
            assert_whole(shape, found)
            assert_free(self.facts, found, 0, end)
        if found is not None and closest is not None:
            assert len({self.facts.domain(slot.node, closest) for slot in (*slots, *found)}) == 1
        event(f"growth: {found is not None}")

    def counts(self, start: int, length: int) -> None:
        """What stays free of each node, and of all of them now, is what is left over by the seats."""
        end, board = start + length, self.board
        assert sorted((n, free) for free, nodes in enumerate(board.by_free) for n in nodes) == [
            (n, board.free[n]) for n in board.ready
        ]
        out = {node for node, outage in self.facts.out.items() if outage.begin == 0}
        assert board.ready == [n for n in range(board.size) if n not in out]
        for node in range(self.board.size):
            expected = 0 if self.facts.gone(node, start, end) else self.facts.free(node, start, end)
            assert self.board.free_over(node, start, end) == expected
            one = (Slot(node, 0, 1, 1),)
            assert self.board.is_free(one, start, end) == (expected > 0 and node < self.facts.nodes(start, end))
        now = self.facts.nodes(0, 1)
        assert self.board.free_now(now) == sum(
            self.facts.pool.slots_per_node
            - sum(
                s.gpus
                for name, (slots, _, _) in self.facts.seats.items()
                if name[0] == "r"
                for s in slots
                if s.node == node
            )
            for node in set(range(now)) - out
        )


# ---------------------------------------------------------------- cases

NODES = 4
slots = st.lists(
    st.tuples(st.integers(0, NODES + 1), st.integers(1, 3)), min_size=1, max_size=4, unique_by=lambda s: s[0]
).map(lambda pairs: tuple(Slot(node, 0, 1, gpus) for node, gpus in pairs))
moments = st.integers(1, 9)
lengths = st.sampled_from([2, 3, 6])
shapes = st.builds(
    lambda sets, topology: shape_of(a_request(pod_sets=tuple(sets), topology=topology)),
    st.lists(st.builds(PodSet, count=st.integers(1, 4), gpus_per_pod=st.integers(1, 4)), min_size=1, max_size=2),
    st.none() | st.builds(Topology, level=st.sampled_from(Level), required=st.booleans()),
)
pools = st.builds(
    a_pool,
    gpus_per_node=st.sampled_from([2, 3, 4]),
    max_nodes=st.just(NODES),
    nodes_per_nvlink=st.integers(1, 2),
    nodes_per_rack=st.integers(1, 4),
    slot=st.just("1/2"),
    slots_per_gpu=st.sampled_from([1, 1, 2]),
)
calendars = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, NODES)), max_size=3, unique_by=lambda step: step[0]
).map(lambda steps: ((0, NODES), *(step for step in steps if step[0])))
outages = st.sampled_from([(), (), (0, 4), (0, 9), (2, 5), (6, 8), (3,)]).map(lambda span: Span(*span))
changes = st.one_of(
    st.tuples(st.just("hold"), slots, moments),
    st.tuples(st.just("hold"), slots, moments),
    st.tuples(st.just("plan"), slots, moments, moments).map(lambda p: (*p[:3], p[2] + p[3])),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("set_out"), st.dictionaries(st.integers(0, NODES + 1), outages, max_size=3)),
)
questions = st.one_of(
    st.tuples(st.just("fit_now"), shapes, lengths),
    st.tuples(st.just("earliest"), shapes, lengths, st.integers(0, 14), st.sampled_from([3, 8, 1 << 62])),
    st.tuples(st.just("earliest"), shapes, lengths, st.just(0), st.just(1 << 62)),
    st.tuples(st.just("grow"), shapes, st.integers(0, 9)),
    st.tuples(st.just("counts"), st.integers(0, 14), moments),
)
cases = st.tuples(
    pools, calendars, st.lists(changes, min_size=4, max_size=14), st.lists(changes | questions, min_size=1, max_size=12)
)


def a_shape(*pods: tuple[int, int], level: Level | None = None, required: bool = True) -> Shape:
    """Return the shape of pods (how many, GPUs of each)."""
    sets = tuple(PodSet(count=count, gpus_per_pod=gpus) for count, gpus in pods)
    return shape_of(a_request(pod_sets=sets, topology=Topology(level=level, required=required) if level else None))


def filled(pool: Pool, *free: int, end: int = 10) -> Pair:
    """Return a pair whose nodes have so much free until `end`."""
    pair = Pair.of(pool, ((0, len(free)),))
    for node, left in enumerate(free):
        if left < pool.slots_per_node:
            pair.hold((Slot(node, 0, 1, pool.slots_per_node - left),), end)
    return pair


@examples(250, 10_000)
@given(cases)
@example((a_pool(gpus_per_node=7), ((0, 2),), [], [("fit_now", a_shape((2, 3), (4, 2)), 1)]))
def test_a_board_answers_as_brute_force_does(case: Any) -> None:
    """Starts, packings, growth and what is free: for every level, after every change of what stands there."""
    pool, steps, before, asked = case
    pair = Pair.of(pool, steps)
    for name, *values in (*before, *asked):
        getattr(pair, name)(*values)


@examples(100, 2000)
@given(pools, st.integers(0, NODES), shapes)
def test_what_can_ever_be_served_is_what_fits_on_empty_nodes(pool: Pool, nodes: int, shape: Shape) -> None:
    """`ever_fits` says what brute force says of an empty board."""
    pair = Pair.of(pool, ((0, nodes),))
    fits = pair.facts.fits(pods_of(shape), 0, 1, pair.within(shape))
    assert ever_fits(pool, nodes, shape) == fits


# ---------------------------------------------------------------- which of the places that fit


def nodes_of(slots: Slots | None) -> list[int]:
    """Return the nodes, in order."""
    assert slots is not None
    return sorted({slot.node for slot in slots})


def starts(pair: Pair, shape: Shape) -> Iterator[Slots | None]:
    """Return the places now, and those that the sweep finds, which starts at the same moment."""
    yield pair.board.fit_now(shape, 0, 5)
    found = pair.board.earliest(shape, 5, 0, 0)
    yield None if found is None else found[1]


def test_the_fullest_nodes_go_first() -> None:
    """Whole nodes stay whole while pieces will do."""
    pair = filled(a_pool(gpus_per_node=8), 8, 3, 8, 1, 2)
    for found in starts(pair, a_shape((4, 1))):
        assert nodes_of(found) == [1, 3, 4]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("level", "nodes"), [(Level.NODE, [4]), (Level.NVLINK, [4]), (Level.RACK, [4])])
def test_the_fullest_domain_that_fits_goes_first(level: Level, nodes: list[int], required: bool) -> None:
    """Four GPUs go where just four are left, though a rack with less on each node comes first."""
    pool = a_pool(gpus_per_node=8, nodes_per_nvlink=2, nodes_per_rack=4)
    pair = filled(pool, 2, 1, 8, 8, 4, 0, 0, 0)
    for found in starts(pair, a_shape((2, 2), level=level, required=required)):
        assert nodes_of(found) == nodes


def test_what_is_preferred_costs_no_time() -> None:
    """A gang that prefers one node starts now on two of a rack; one that requires it waits until a node is free."""
    pair = filled(a_pool(gpus_per_node=4, nodes_per_rack=2), 1, 4, 3, 3)
    assert nodes_of(pair.board.fit_now(a_shape((5, 1), level=Level.RACK, required=False), 0, 5)) == [0, 1]
    assert nodes_of(pair.board.fit_now(a_shape((6, 1), level=Level.NODE, required=False), 0, 5)) == [2, 3]
    assert pair.board.fit_now(a_shape((3, 2), level=Level.NODE), 0, 5) is None
    assert pair.board.earliest(a_shape((2, 2), (1, 1), level=Level.RACK), 5, 0) is not None


def test_a_node_that_is_out_keeps_what_runs_and_takes_nothing_more() -> None:
    """It comes back with what was given back meanwhile."""
    pair = filled(a_pool(gpus_per_node=4), 2, 0)
    one = a_shape((1, 1))
    pair.board.set_out({0: Span()})
    assert pair.board.free_now(2) == 0
    assert not pair.board.is_free((Slot(0, 0, 1, 1),), 0, 5)
    assert pair.board.earliest(one, 5, 0) == (10, (Slot(1, 0, 1, 1),))
    pair.board.drop("run0", *pair.facts.seats["run0"][::2])
    assert pair.board.fit_now(one, 0, 5) is None
    pair.board.set_out({})
    assert pair.board.fit_now(a_shape((1, 4)), 0, 5) == (Slot(0, 0, 1, 4),)


def test_a_node_that_goes_for_a_time_takes_what_ends_before_and_what_starts_after() -> None:
    """Nothing is placed into its outage, and the calendar offers none of it then."""
    pair = filled(a_pool(gpus_per_node=4, max_nodes=1), 4)
    whole = a_shape((4, 1))
    pair.board.set_out({0: Span(5, 9)})
    assert pair.board.fit_now(whole, 0, 5) is not None
    assert pair.board.fit_now(whole, 0, 6) is None
    assert pair.board.earliest(whole, 5, 1) == (9, (Slot(0, 0, 4, 4),))
    pair.board.set_out({0: Span(0, 9)})
    assert (pair.board.fit_now(whole, 0, 1), pair.board.free_now(1)) == (None, 0)
    assert pair.board.earliest(whole, 5, 0) == (9, (Slot(0, 0, 4, 4),))
    assert [(span.planned_gpus, span.end - span.start) for span in pair.board.free_capacity(0, 12)] == [
        (0, timedelta(microseconds=9)),
        (4, timedelta(microseconds=3)),
    ]


def test_a_node_that_may_be_back_any_time_keeps_its_promises() -> None:
    """A promise on it is kept until it is given up; a new one begins when it is expected back."""
    pair = filled(a_pool(gpus_per_node=4, max_nodes=1), 4)
    pair.board.set_out({0: Span(0, 9, keeps=True)})
    slots = (Slot(0, 0, 1, 1),)
    assert pair.board.is_free(slots, 2, 5, keep=True)
    assert not pair.board.is_free(slots, 2, 5)
    assert not Board(pair.facts.pool, Steps(())).is_free(slots, 2, 5, keep=True)


def test_a_gang_that_must_stand_together_starts_when_its_rack_is_there() -> None:
    """Enough nodes are free from the first moment on, and in one rack only when the calendar adds a node."""
    pair = Pair.of(a_pool(gpus_per_node=4, nodes_per_rack=2), ((0, 3), (5, 4)))
    pair.hold((Slot(1, 0, 1, 1),), 20)
    found = pair.board.earliest(a_shape((2, 4), level=Level.RACK), 3, 0)
    assert found is not None
    assert (found[0], nodes_of(found[1])) == (5, [2, 3])


def test_the_same_question_after_a_change_has_the_new_answer() -> None:
    """What was found out about later starts is forgotten when a node goes out, a gang comes, or a promise is made."""
    pair = filled(a_pool(gpus_per_node=4), 0, 4, 4)
    one = a_shape((1, 4))
    answers = [pair.board.earliest(one, 5, 0)]
    pair.set_out({1: Span()})
    answers.append(pair.board.earliest(one, 5, 0))
    pair.hold((Slot(2, 0, 1, 1),), 12)
    answers.append(pair.board.earliest(one, 5, 0))
    pair.plan((Slot(0, 0, 1, 1),), 11, 13)
    answers.append(pair.board.earliest(one, 5, 10))
    assert [found and (found[0], nodes_of(found[1])) for found in answers] == [(0, [1]), (0, [2]), (10, [0]), (12, [2])]


def test_a_gang_grows_beside_itself() -> None:
    """It takes its own node first, then its rack; what must stand in one rack goes nowhere else."""
    pair = filled(a_pool(gpus_per_node=4, nodes_per_rack=2), 2, 4, 1, 4)
    have = (Slot(0, 0, 1, 2),)
    near = a_shape((2, 1), level=Level.NODE, required=False)
    assert nodes_of(pair.board.fit_more(have, near, 0, 5)) == [0]
    assert nodes_of(pair.board.fit_more(have, a_shape((3, 2), level=Level.NODE, required=False), 0, 5)) == [0, 1]
    assert pair.board.fit_more(have, a_shape((7, 1), level=Level.RACK), 0, 5) is None
    assert nodes_of(pair.board.fit_more(have, a_shape((7, 1)), 0, 5)) == [0, 1, 2]


def test_a_mixed_gang_of_thousands_of_pods_is_given_up_in_bounded_steps() -> None:
    """Neither the depth of the search nor its breadth grows out of hand with the pods and the nodes."""
    board = Board(a_pool(gpus_per_node=7, max_nodes=2000), Steps([(0, 2000)]))
    gang = a_shape((2000, 3), (4000, 2))  # just fits, where best-fit puts 3 + 3 on a node and leaves 1
    found = board.fit_now(gang, 0, 1)
    assert found is None or board.is_free(found, 0, 1)
    assert board.fit_now(a_shape((20, 3), (40, 2)), 0, 1) is not None
