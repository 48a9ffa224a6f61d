"""Admission against brute force: small cases in whole hours, every start and every packing tried out.

The oracle follows the ledger from one state to the next. It takes over which nodes the ledger chose (any that fit will
do) and says by itself who is served in which order, from when, in which pool, and who has to stay where it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given, strategies as st
from tests.effort import examples
from tests.reserve.support.packs import packs

from gangplan.errors import InputError
from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.policy.rules import Policy
from gangplan.testing import NOW, FakeClock, a_pool, a_request
from gangplan.types import (
    CapacityCalendar,
    CapacityInterval,
    GangRequest,
    Level,
    PlanId,
    PodSet,
    Pool,
    ReservationState,
    Topology,
)

HOUR = timedelta(hours=1)
SEARCH_HOURS = 60  # longer than all walltimes of a case together, so that a start later than this means never
POINTS_PER_HOUR = 60  # of waiting
BY_THE_MINUTE = Policy(ageing=timedelta(minutes=1))

# ---------------------------------------------------------------- cases


@dataclass(frozen=True, kw_only=True)
class World:
    """Pools, and the nodes of each by hour; the last count goes on."""

    pools: tuple[Pool, ...]
    nodes: tuple[tuple[int, ...], ...]

    def nodes_at(self, pool: Pool, hour: int) -> int:
        """Return how many nodes a pool has in an hour."""
        counts = self.nodes[self.pools.index(pool)]
        return counts[min(hour, len(counts) - 1)]

    def calendar(self) -> CapacityCalendar:
        """Return the calendar to publish."""
        intervals = tuple(
            CapacityInterval(pool=pool.name, start=NOW + hour * HOUR, end=NOW + (hour + 1) * HOUR, nodes=count)
            for pool, counts in zip(self.pools, self.nodes, strict=True)
            for hour, count in enumerate(counts)
        )
        return CapacityCalendar(plan_id=PlanId("case"), pools=self.pools, intervals=intervals)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Two or three pools of 1 to 4 nodes; the third shares the accelerator of the first at another price."""
    names = ["h100-owned", "a100-owned", "h100-spot"][: draw(st.integers(2, 3))]
    pools = tuple(
        a_pool(
            name,
            gpus_per_node=draw(st.sampled_from([2, 4, 7, 8])),
            max_nodes=draw(st.integers(1, 4)),
            nodes_per_rack=draw(st.integers(1, 2)),
            price_per_node_hour=float(draw(st.integers(1, 2))),
        )
        for name in names
    )
    nodes = tuple(
        (*draw(st.lists(st.integers(0, pool.max_nodes), min_size=0, max_size=3)), pool.max_nodes) for pool in pools
    )
    return World(pools=pools, nodes=nodes)


asks = st.fixed_dictionaries(
    {
        "pod_sets": st.lists(
            st.builds(PodSet, count=st.integers(1, 3), gpus_per_pod=st.integers(1, 4)), min_size=1, max_size=2
        ).map(tuple),
        "accelerators": st.sampled_from([("h100",), ("a100",), ("a100", "h100"), ("h100", "a100")]),
        "hours": st.integers(1, 4),
        "more": st.sampled_from([0, 0, 1, 2]),
        "priority": st.sampled_from([0, 60, 61, 120, 1000]),
        "window": st.sampled_from([(None, None)] * 4 + [(0, 2), (1, None), (2, 2), (None, 1), (3, 6)]),
        "same_rack": st.booleans(),
    }
)
steps = st.one_of(
    asks.map(lambda ask: ("submit", ask)),
    st.just(("hour", 1)),
    st.tuples(st.sampled_from(["release", "cancel"]), st.integers(0, 5)),
)
cases = st.tuples(worlds(), st.lists(asks, min_size=2, max_size=4), st.lists(steps, max_size=7))


def ask(*pod_sets: PodSet, hours: int = 1, priority: int = 0) -> dict[str, Any]:
    """Return a plain ask for h100s."""
    plain = {"accelerators": ("h100",), "more": 0, "window": (None, None), "same_rack": False}
    return {**plain, "pod_sets": pod_sets, "hours": hours, "priority": priority}


TWO_NODES = World(pools=(a_pool(gpus_per_node=7),), nodes=((2,),))
MIXED = (TWO_NODES, [ask(PodSet(count=2, gpus_per_pod=3), PodSet(count=4, gpus_per_pod=2))], [])
"""Fits in one way only, which best-fit does not come to."""

WHOLE = PodSet(count=2, gpus_per_pod=7)
AGED = (TWO_NODES, [ask(WHOLE, hours=2), ask(WHOLE)], [("hour", 1), ("submit", ask(WHOLE, priority=60))])
"""The second has waited for as long as the third's priority is worth, and came first."""


def request_from_text(number: int, ask: dict[str, Any], now: datetime) -> GangRequest:
    """Return the request of an ask."""
    earliest, latest = ask["window"]
    return a_request(
        f"k{number}",
        pod_sets=ask["pod_sets"],
        accelerators=ask["accelerators"],
        duration=ask["hours"] * HOUR,
        walltime=(ask["hours"] + ask["more"]) * HOUR,
        priority=ask["priority"],
        earliest_start=None if earliest is None else now + earliest * HOUR,
        latest_start=None if latest is None else now + latest * HOUR,
        topology=Topology(level=Level.RACK) if ask["same_rack"] else None,
    )


# ---------------------------------------------------------------- states


@dataclass(frozen=True, kw_only=True)
class Seat:
    """GPUs of nodes of one pool, from one hour up to another: held, or promised."""

    pool: str
    gpus: tuple[tuple[int, int], ...]  # (node, GPUs), one for each slot
    pods: tuple[tuple[int, int], ...]  # (pod set, pods), one for each slot
    start: int
    end: int
    firm: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """Who runs where, who waits, and what those are promised."""

    running: dict[str, Seat]
    waiting: dict[str, Seat | None]
    asked: dict[str, tuple[GangRequest, int, int]] = field(repr=False)  # request, hour of submission, arrival


def hour_of(us: int) -> int:
    """Return microseconds since 1970 as hours since the case began, which they must be in whole."""
    hours, rest = divmod(us - round(NOW.timestamp()) * 1_000_000, 3_600_000_000)
    assert rest == 0
    return hours


def state_of(ledger: Ledger) -> State:
    """Read the ledger; promised slots are no part of its answers, so they come from its store."""
    state = State(running={}, waiting={}, asked={})
    for entry in ledger._store.select(since=None, state=None):  # type: ignore[attr-defined]
        key = entry.request.request_key
        if entry.state.final:
            continue
        state.asked[key] = (entry.request, hour_of(entry.submitted), entry.arrival)
        if entry.state is ReservationState.GRANTED:
            state.running[key] = _seat(entry.pool, entry.slots, entry.granted, entry.hard_end)
        else:
            plan = entry.promise
            state.waiting[key] = plan and _seat(plan.pool, plan.slots, plan.start, plan.end, firm=plan.firm)
    return state


def _seat(pool: str, slots: Sequence[Any], start: int, end: int, *, firm: bool = False) -> Seat:
    return Seat(
        pool=pool,
        gpus=tuple((slot.node, slot.gpus) for slot in slots),
        pods=tuple((slot.pod_set, slot.pods) for slot in slots),
        start=hour_of(start),
        end=hour_of(end),
        firm=firm,
    )


# ---------------------------------------------------------------- the oracle


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What admission has to come to, by trying all there is."""

    world: World

    def pools(self, request: GangRequest) -> list[Pool]:
        """Return the pools that serve a request: its accelerators in order, the cheapest pool of each first."""
        cheapest = sorted(self.world.pools, key=lambda pool: (pool.price_per_node_hour, pool.name))
        return [pool for name in request.accelerators for pool in cheapest if pool.accelerator == name]

    def free(self, pool: Pool, seats: Sequence[Seat], start: int, end: int) -> dict[int, int]:
        """Return the GPUs of each node that is there and stays free from `start` up to `end`."""
        hours = range(start, end)
        nodes = min(self.world.nodes_at(pool, hour) for hour in hours)
        mine = [seat for seat in seats if seat.pool == pool.name]
        return {
            node: pool.gpus_per_node - max(sum(_gpus(seat, node, hour) for seat in mine) for hour in hours)
            for node in range(nodes)
        }

    def fits(self, request: GangRequest, pool: Pool, free: dict[int, int]) -> bool:
        """Tell whether the whole gang fits on these nodes, in one rack where it asks for that."""
        racks: dict[int, list[int]] = {}
        for node, gpus in free.items():
            racks.setdefault(node // pool.nodes_per_rack if request.topology else 0, []).append(gpus)
        pods = sorted((size.gpus_per_pod for size in request.pod_sets for _ in range(size.count)), reverse=True)
        return any(packs(tuple(sorted(rack)), tuple(pods)) for rack in racks.values())

    def servable(self, request: GangRequest) -> bool:
        """Tell whether a pool could ever hold the gang, all of its nodes there and empty."""
        return any(
            self.fits(request, pool, dict.fromkeys(range(pool.max_nodes), pool.gpus_per_node))
            for pool in self.pools(request)
        )

    def earliest(self, request: GangRequest, seats: Sequence[Seat], after: int, until: int) -> tuple[int, str] | None:
        """Return the first hour at which the gang can start, and the preferred pool that has it then."""
        hours = round(request.limit / HOUR)
        for start in range(after, min(until, SEARCH_HOURS) + 1):
            for pool in self.pools(request):
                if self.fits(request, pool, self.free(pool, seats, start, start + hours)):
                    return start, pool.name
        return None

    def has_room(self, seat: Seat, seats: Sequence[Seat]) -> bool:
        """Tell whether exactly these slots are free beside the others."""
        pool = next(pool for pool in self.world.pools if pool.name == seat.pool)
        free = self.free(pool, seats, seat.start, seat.end)
        return all(free.get(node, -1) >= sum(g for n, g in seat.gpus if n == node) for node, _ in seat.gpus)


def _gpus(seat: Seat, node: int, hour: int) -> int:
    """Return what a seat takes of a node in an hour."""
    return sum(gpus for at, gpus in seat.gpus if at == node) if seat.start <= hour < seat.end else 0


def in_line(state: State, now: int) -> list[str]:
    """Return who waits: priority plus a point for each minute waited, then arrival."""

    def standing(key: str) -> tuple[int, int]:
        request, submitted, arrival = state.asked[key]
        return -(request.priority + (now - submitted) * POINTS_PER_HOUR), arrival

    return sorted(state.waiting, key=standing)


@dataclass
class Round:
    """One admission, followed from the state before it to the state after it."""

    oracle: Oracle
    before: State
    after: State
    now: int
    freed: bool
    displaced: bool = False  # a promise was taken back for a higher rank: what it left is offered again

    def __post_init__(self) -> None:
        live = {**self.after.waiting, **self.after.running}
        self.asked = {**self.before.asked, **self.after.asked}
        fresh = [key for key in live if key not in self.before.asked]
        line = State(running={}, waiting={**self.before.waiting, **dict.fromkeys(fresh)}, asked=self.asked)
        self.line = [key for key in in_line(line, self.now) if key in live]
        self.held = {key: seat for key, seat in self.before.running.items() if key in live}
        self.promised = {key: seat for key, seat in self.before.waiting.items() if seat is not None and key in live}

    def check(self) -> None:
        """Follow the whole round, and hold its end against the ledger's."""
        if self.freed and len(self.promised) < len(self.before.waiting):
            return  # who waits without a promise may take again what was drawn together: not seen in the end
        if self.freed:
            self.draw_together()
        for key in self.line:
            self.serve(key)
        after = {key: seat for key, seat in self.after.waiting.items() if seat is not None}
        if self.displaced:  # the second offer moves promises ahead, or starts them
            after |= self.after.running
            assert all(after[key].start <= seat.start for key, seat in self.promised.items())
            return
        assert self.held == self.after.running
        assert self.promised == after

    def others(self, *without: str) -> list[Seat]:
        """Return all seats but those promised to some."""
        return [*self.held.values(), *(seat for key, seat in self.promised.items() if key not in without)]

    def bounds(self, key: str) -> tuple[int, int]:
        """Return the first and the last hour in which a request may start."""
        request = self.asked[key][0]
        first = self.now if request.earliest_start is None else (request.earliest_start - NOW) // HOUR
        return max(self.now, first), (
            SEARCH_HOURS if request.latest_start is None else (request.latest_start - NOW) // HOUR
        )

    def draw_together(self) -> None:
        """Something became free: in rank order, each promise moves as early as all the others allow."""
        for key in self.line:
            seat, (first, _) = self.promised.get(key), self.bounds(key)
            if seat is not None and seat.start > first:
                found = self.oracle.earliest(self.asked[key][0], self.others(key), first, seat.start - 1)
                if found is not None:
                    self.settle(key, found)

    def settle(self, key: str, found: tuple[int, str]) -> None:
        """Let a request have its place: the nodes that the ledger chose, if they are free then and there."""
        self.promised.pop(key, None)
        seat = self.after.running.get(key) or self.after.waiting.get(key)
        assert seat is not None, f"{key} could start at {found}, and is promised nothing"
        if self.displaced:
            assert seat.start <= found[0], f"{key} could start at {found}, and is given {seat}"
        else:
            assert (seat.start, seat.pool) == found, f"{key} could start at {found}, and is given {seat}"
        assert self.oracle.has_room(seat, [*self.held.values(), *(s for s in self.promised.values() if s.firm)])
        (self.held if key in self.after.running else self.promised)[key] = seat

    def serve(self, key: str) -> None:
        """Keep what is promised; who has no promise gets the earliest start that higher ranks leave."""
        seat = self.promised.get(key)
        if key in self.held:
            return
        if seat is not None and seat.start <= self.now:
            self.settle(key, (self.now, seat.pool))
            assert self.held[key].gpus == seat.gpus
        elif seat is None:
            behind = self.line[self.line.index(key) + 1 :]
            lower = {k: s for k in behind if (s := self.promised.get(k)) is not None and not s.firm}
            found = self.oracle.earliest(self.asked[key][0], self.others(*lower), *self.bounds(key))
            if found is None:
                assert self.after.waiting[key] is None, f"{key} cannot start, and is given {self.after.waiting[key]}"
                return
            for other in lower:
                del self.promised[other]
            self.settle(key, found)
            for other, place in lower.items():
                if self.oracle.has_room(place, self.others()):
                    self.promised[other] = place
                else:
                    self.displaced = True


# ---------------------------------------------------------------- what holds in every state


def check_state(oracle: Oracle, state: State, now: int) -> None:
    """No node is oversold at any hour, gangs are whole, nobody waits without a promise beside slots to spare."""
    seats = {**state.running, **{key: seat for key, seat in state.waiting.items() if seat is not None}}
    for pool in oracle.world.pools:
        for hour in range(now, SEARCH_HOURS):
            for node in range(pool.max_nodes):
                taken = sum(_gpus(seat, node, hour) for seat in seats.values() if seat.pool == pool.name)
                there = pool.gpus_per_node if node < oracle.world.nodes_at(pool, hour) else 0
                assert taken <= there, f"{pool.name}-{node} carries {taken} of {there} GPUs in hour {hour}"
    for key, seat in seats.items():
        assert_whole(state.asked[key][0], seat, next(pool for pool in oracle.world.pools if pool.name == seat.pool))
    for key in (key for key, seat in state.waiting.items() if seat is None):
        request, _, _ = state.asked[key]
        if request.earliest_start is None or request.earliest_start <= NOW + now * HOUR:
            assert oracle.earliest(request, list(seats.values()), now, now) is None, f"{key} could start now, and waits"


def assert_whole(request: GangRequest, seat: Seat, pool: Pool) -> None:
    """All pods of all pod sets, each with its GPUs, in a pool of a wanted accelerator, in one rack if asked."""
    pods = [sum(count for index, count in seat.pods if index == at) for at in range(len(request.pod_sets))]
    assert pods == [size.count for size in request.pod_sets]
    for (index, count), (_, gpus) in zip(seat.pods, seat.gpus, strict=True):
        assert gpus == count * request.pod_sets[index].gpus_per_pod
    assert pool.accelerator in request.accelerators
    assert seat.end - seat.start == round(request.limit / HOUR)
    if request.topology:
        assert len({node // pool.nodes_per_rack for node, _ in seat.gpus}) == 1


# ---------------------------------------------------------------- play


def play(ledger: Ledger, clock: FakeClock, world: World, asks: list[Any], steps: list[Any]) -> Iterator[State]:
    """Play a case on a ledger, hold each step against the oracle, and yield the states."""
    oracle = Oracle(world=world)
    ledger.set_policy(BY_THE_MINUTE, by="test", why="a point for each minute")
    ledger.publish(world.calendar())
    state, count = state_of(ledger), 0
    for name, value in [*(("submit", ask) for ask in asks), *steps]:
        freed = False
        if name == "submit" and count < 6:
            count += 1
            request = request_from_text(count, value, clock())
            if not oracle.servable(request):
                with pytest.raises(InputError):
                    ledger.submit(request)
                continue
            ledger.submit(request)
        elif name == "hour":
            clock.advance(HOUR)
            ledger.tick()
        elif name in ("release", "cancel"):
            live = [r for r in ledger.list() if not r.state.final]
            if not live:
                continue
            chosen = live[value % len(live)]
            if name == "release" and chosen.token is not None:
                ledger.release(chosen.id, chosen.token)
            else:
                ledger.cancel(chosen.id)
        now = (clock() - NOW) // HOUR
        after = state_of(ledger)
        freed = any(key not in after.asked for key in state.asked)
        check_state(oracle, after, now)
        Round(oracle, state, after, now, freed).check()
        event(f"{len(after.waiting)} wait, {len(after.running)} run")
        state = after
        yield after


@examples(120, 6000)
@given(cases)
@example(MIXED)
@example(AGED)
def test_admission_is_what_brute_force_says(case: Any) -> None:
    """In every step: feasible, whole, in order, at the earliest start there is, nobody ahead delayed."""
    clock = FakeClock()
    with open_ledger("memory://", clock=clock) as ledger:
        for _ in play(ledger, clock, *case):
            pass


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger's file, made once."""
    file = tmp_path_factory.mktemp("oracle") / "ledger.db"
    open_ledger(f"sqlite:///{file}").close()
    return file


@examples(10, 250)
@given(case=cases)
def test_a_file_admits_as_memory_does(migrated: Path, case: Any) -> None:
    """The same cases on SQLite: the oracle agrees, and every state is the one in memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = shutil.copy(migrated, Path(folder) / "ledger.db")
        clocks = FakeClock(), FakeClock()
        with open_ledger("memory://", clock=clocks[0]) as one, open_ledger(f"sqlite:///{file}", clock=clocks[1]) as two:
            for left, right in zip(play(one, clocks[0], *case), play(two, clocks[1], *case), strict=True):
                assert left == right
            assert one.history() == two.history()
