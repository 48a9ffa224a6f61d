"""Plans carried out on engines that refuse, conflict, do not answer, and on processes that are killed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier

import pytest
from hypothesis import given, strategies as st

from gangplan.errors import CapacityError, ConflictError, GangplanError, RejectedError, UnavailableError
from gangplan.execute import Carried, Carrying, Engine, goals, until_reached
from gangplan.testing import NOW, a_plan
from gangplan.types import Grant, Observation, PoolNode, PoolNodes, Quota, Step, StepKind
from tests.effort import examples
from tests.execute.world import SLOTS, Place, PoolWorld, WorldTarget, pool

SOON_S = 20.0


class Killed(BaseException):
    """The process dies."""


class World:
    """Pools a and b of a world whose clock a test moves; nodes start at once."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.now = NOW
        self.pools = {
            name: PoolWorld(name=name, places={f"{name}-queue": Place(group=name)}, delay=timedelta(seconds=delay_s))
            for name in ("a", "b")
        }
        self.target = WorldTarget(self.pools, lambda: self.now)

    def carrying(self, **nodes: int) -> Carrying:
        """Carry out a plan of so many nodes."""
        planned = a_plan(NOW, {name: [count] for name, count in nodes.items()}, [pool("a"), pool("b")])
        engines = (Engine(target=self.target),)
        return Carrying(engines=engines, wanted=lambda _: goals(planned, NOW), clock=lambda: self.now)

    def settle(self, **nodes: int) -> Carried:
        """Carry out until the plan is reached, in the world's time."""
        return until_reached(self.carrying(**nodes), deadline=self.now + timedelta(hours=1), pause=self.pause)

    def pause(self, span: timedelta) -> None:
        """Let time pass."""
        self.now += span
        for world in self.pools.values():
            world.grow(self.now)
            for gang in world.gangs:
                world.bind(gang, self.now)

    def state(self) -> dict[str, tuple[int, int]]:
        """Nodes ordered and quota of each pool."""
        return {name: (world.ordered, world.promised()) for name, world in self.pools.items()}


def fails(error: GangplanError, *kinds: StepKind, pools: str = "ab") -> Callable[[Step | None], GangplanError | None]:
    """Let an engine refuse the steps of some kinds, of some pools."""
    return lambda step: error if step is not None and step.kind in kinds and step.pool in pools else None


def test_a_plan_is_reached_step_by_step_and_all_that_is_left_is_shown() -> None:
    """One pass orders; the quota waits for nodes, and follows them; down again everything goes in its turn."""
    world = World(delay_s=60)
    first = world.carrying(a=3, b=1).once()
    assert [(step.kind.value, step.pool) for step in first.done] == [("order", "a"), ("order", "b")]
    assert {step.kind.value for step in first.left} == {"order", "raise quota"}
    assert all(step.waits_for for step in first.left)
    assert world.settle(a=3, b=1).reached
    assert world.state() == {"a": (3, 3 * SLOTS), "b": (1, SLOTS)}
    assert world.settle(a=1, b=0).reached
    assert world.state() == {"a": (1, SLOTS), "b": (0, 0)}


def test_a_refused_step_is_named_and_leaves_what_was_before_it() -> None:
    """The rest of its pool waits, the other pool goes on, and the next pass tries it again."""
    world = World()
    world.settle(a=1, b=1)
    world.target.before_call = fails(CapacityError("no machines of that kind"), StepKind.ORDER, pools="a")
    carried = world.settle(a=3, b=3)
    assert [(taken.step.kind, taken.step.pool, taken.words) for taken in carried.refused] == [
        (StepKind.ORDER, "a", "no machines of that kind")
    ]
    assert world.state() == {"a": (1, SLOTS), "b": (3, 3 * SLOTS)}
    world.target.before_call = lambda _: None
    assert world.settle(a=3, b=3).reached


def test_later_steps_of_a_refused_ones_pool_wait_for_it() -> None:
    """They are shown with the reason."""
    world = World()
    world.settle(a=3, b=1)
    world.target.before_call = fails(RejectedError("owned by gitops"), StepKind.LOWER_QUOTA, pools="a")
    carried = world.carrying(a=1, b=1).once()
    assert [taken.words for taken in carried.refused] == ["owned by gitops"]
    assert carried.left
    assert all(step.waits_for for step in carried.left)
    assert world.state()["a"] == (3, 3 * SLOTS)


def test_a_conflict_is_looked_at_again_and_an_endless_one_is_named() -> None:
    """Who was first is no trouble; whoever always is first is named as a refusal."""
    world = World()
    left = [2]

    def overtaken(step: Step | None) -> GangplanError | None:
        if step is None or not left[0]:
            return None
        left[0] -= 1
        return ConflictError("ordered: is not what the step was made from")

    world.target.before_call = overtaken
    assert world.settle(a=1, b=0).reached
    world.target.before_call = fails(ConflictError("another writer"), StepKind.ORDER)
    assert [taken.words for taken in world.carrying(a=2, b=0).once().refused] == ["another writer"]


def test_an_engine_that_does_not_answer_stops_no_other() -> None:
    """Its steps wait with its words; what another engine can do is done, but nothing is taken away in the dark."""

    class Cloud(WorldTarget):
        name = "cloud"
        kinds = frozenset({StepKind.ORDER, StepKind.REMOVE})

        def observe(self) -> Observation:
            return Observation(nodes=super().observe().nodes)

    world = World()
    other = PoolWorld(name="b", places={}, delay=timedelta())
    cloud = Cloud({"b": other}, lambda: world.now)
    del world.pools["b"]
    carrying = world.carrying(a=1, b=2)
    carrying.engines = (Engine(target=world.target), Engine(target=cloud))
    world.target.before_call = lambda _: UnavailableError("cluster: no answer")
    carried = carrying.once()
    assert carried.unreachable == {"world": "cluster: no answer"}
    assert other.ordered == 2
    assert not carried.reached


def test_what_an_engine_did_not_answer_may_have_been_done() -> None:
    """The step was taken, the answer was lost: the next look sees it, and nothing is bought twice."""
    world = World()
    taken = world.target.apply

    def lost(step: Step, *, dry_run: bool = False) -> None:
        taken(step, dry_run=dry_run)
        raise UnavailableError("the answer was lost")

    world.target.apply = lost  # type: ignore[method-assign]
    carried = world.carrying(a=2, b=0).once()
    assert carried.unreachable == {"world": "the answer was lost"}
    world.target.apply = taken  # type: ignore[method-assign]
    assert world.settle(a=2, b=0).reached
    assert sum(step.kind is StepKind.ORDER for step in world.target.taken) == 1


def test_a_dry_run_lets_engines_check_and_changes_nothing() -> None:
    """What could be done is shown, and what would be refused is named."""
    world = World()
    world.settle(a=1, b=1)
    before = world.state()
    world.target.before_call = fails(RejectedError("no rights"), StepKind.ORDER, pools="b")
    carried = world.carrying(a=2, b=2).once(dry_run=True)
    assert [(step.kind.value, step.pool) for step in carried.done] == [("order", "a")]
    assert [taken.step.pool for taken in carried.refused] == ["b"]
    assert world.state() == before


def test_steps_are_not_taken_from_an_old_look() -> None:
    """An engine that takes long makes the rest wait for another look."""
    world = World()
    looks = 0

    def slow(step: Step | None) -> None:
        nonlocal looks
        looks += step is None
        world.now += timedelta(seconds=11 if step else 0)

    world.target.before_call = slow
    world.carrying(a=1, b=1).once()
    assert looks > 2
    assert [world.pools[name].ordered for name in "ab"] == [1, 1]


def test_steps_of_two_pools_are_taken_at_the_same_time() -> None:
    """Each waits in the engine until the other is there."""
    world, together = World(), Barrier(2)

    def meet(step: Step | None) -> None:
        if step is not None and step.kind is StepKind.ORDER:
            together.wait(SOON_S)

    world.target.before_call = meet
    both = world.carrying(a=3, b=3)
    both.engines = (Engine(target=world.target, at_once=2),)
    assert [(step.kind.value, step.pool) for step in both.once().done][:2] == [("order", "a"), ("order", "b")]


def test_two_tellers_of_one_pool_are_joined() -> None:
    """The cloud has the number, the cluster says which nodes can be used; the cluster cordons, the cloud removes."""

    class Cluster:
        name = "cluster"
        kinds = frozenset(StepKind)
        taken: tuple[Step, ...] = ()

        def observe(self) -> Observation:
            nodes = (PoolNode(name="n0"), PoolNode(name="n1"), PoolNode(name="n2", usable=False))
            return Observation(
                nodes=(PoolNodes(pool="a", ordered=3, nodes=nodes),),
                quotas=(Quota(pool="a", place="q", group="q", slots=2 * SLOTS, used=0),),
                grants=(Grant(name="gang", pool="a", slots=SLOTS, nodes={"n0": SLOTS}),),
            )

        def apply(self, step: Step, *, dry_run: bool = False) -> None:
            self.taken += (step,)

        def check(self) -> tuple[str, ...]:
            return ()

        def close(self) -> None: ...

    class Cloud(Cluster):
        name = "cloud"
        kinds = frozenset({StepKind.ORDER, StepKind.REMOVE})

        def observe(self) -> Observation:
            nodes = (PoolNode(name="n0"), PoolNode(name="n1", usable=False), PoolNode(name="n2"))
            return Observation(nodes=(PoolNodes(pool="a", ordered=4, nodes=nodes, trouble="no capacity"),))

    cluster, cloud = Cluster(), Cloud()
    planned = a_plan(NOW, {"a": [5]}, [pool("a")])
    carrying = Carrying(
        engines=(Engine(target=cluster, orders=frozenset()), Engine(target=cloud)),
        wanted=lambda at: goals(planned, at),
        clock=lambda: NOW,
    )
    carried = carrying.once(dry_run=True)
    seen = carried.observed.nodes[0]
    assert (seen.ordered, [node.name for node in seen.nodes if node.usable], seen.trouble) == (4, ["n0"], "no capacity")
    assert [(step.kind, step.before, step.after) for step in cloud.taken] == [(StepKind.ORDER, 4, 5)]
    assert [(step.kind, step.before, step.after) for step in cluster.taken] == [(StepKind.LOWER_QUOTA, 8, 4)]


def test_fixed_nodes_are_neither_cordoned_nor_ordered() -> None:
    """Nobody would remove them; that more are wanted than there are is shown."""
    world = World()
    world.settle(a=3, b=0)
    for wanted, left in ((1, []), (4, ["order", "order", "raise quota"])):
        carrying = world.carrying(a=wanted, b=0)
        carrying.engines = (Engine(target=world.target, orders=frozenset()),)
        carried = carrying.once(dry_run=True)
        assert {step.kind for step in carried.done} <= {StepKind.LOWER_QUOTA}
        assert [step.kind.value for step in carried.left] == left
    assert "fixed" in carried.left[0].waits_for


def _carry_for_ever(world: World, a: int, b: int) -> None:
    """Carry out again and again, until the process is killed."""
    while True:
        world.carrying(a=a, b=b).once()
        world.pause(timedelta(seconds=2))


@examples(short=30, long=2000)
@given(
    kills=st.lists(st.integers(0, 14), max_size=8),
    goals_=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=4),
    gangs=st.lists(st.integers(1, 9), max_size=4),
)
def test_a_process_that_is_killed_anywhere_is_followed_by_one_that_goes_on(
    kills: list[int], goals_: list[tuple[int, int]], gangs: list[int]
) -> None:
    """Between any two calls the process may die; a new one reaches the plan, and no gang loses its nodes."""
    world = World(delay_s=3)
    for number, (a, b) in enumerate(goals_):
        for kill in kills[number::2]:
            calls = kill

            def dies(_: Step | None) -> None:
                nonlocal calls
                calls -= 1
                if calls < 0:
                    raise Killed

            world.target.before_call = dies
            with pytest.raises(Killed):
                _carry_for_ever(world, a, b)
            world.target.before_call = lambda _: None
        for name in "ab":
            for slots in gangs:
                if world.pools[name].admit(f"{name}-queue", slots):
                    assert world.pools[name].granted() <= len(world.pools[name].open(world.now)) * SLOTS
    for each in world.pools.values():
        each.gangs.clear()
    assert world.settle(a=goals_[-1][0], b=goals_[-1][1]).reached
    assert world.state() == {"a": (a, a * SLOTS), "b": (b, b * SLOTS)}
