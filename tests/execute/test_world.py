"""Two controllers carry plans out over a world that delays, refuses, loses nodes and changes its plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gangplan.errors import ConflictError
from gangplan.execute import Goal, goals, steps
from gangplan.testing import NOW, a_plan
from gangplan.types import Observation, Plan, Step, StepKind
from tests.effort import effort
from tests.execute.world import SLOTS, Place, PoolWorld, pool

POOLS = (pool("a", startup_minutes=2), pool("b"))
HOURS = 6


@dataclass
class Controller:
    """One that carries plans out: the steps that it has decided, from what it saw at event `seen_at`."""

    todo: list[Step] = field(default_factory=list[Step])
    wanted: tuple[Goal, ...] = ()
    most: dict[str, int] = field(default_factory=dict[str, int])
    seen_at: int = 0


class Carrying(RuleBasedStateMachine):
    """The claims: never more granted than there is, nothing granted loses its node, nothing is bought twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.events = 0
        self.worlds = {
            "a": PoolWorld(name="a", places={"q1": Place(group="cohort"), "q2": Place(group="cohort")}),
            "b": PoolWorld(name="b", places={name: Place(group=name, keeps=True) for name in ("q3", "q4")}),
        }
        self.plan = self._plan({name: [2, 4, 1, 3, 0, 2] for name in self.worlds})
        self.controllers = (Controller(), Controller())
        self.excused: dict[str, list[int]] = {name: [] for name in self.worlds}
        self.mixed: set[str] = set()
        self._settle()

    def _plan(self, nodes: dict[str, list[int]]) -> Plan:
        return a_plan(NOW, nodes, POOLS)

    # what controllers do

    @rule(who=st.sampled_from([0, 1]))
    def look(self, who: int) -> None:
        """A controller observes and decides."""
        controller = self.controllers[who]
        controller.wanted = goals(self.plan, self.now)
        controller.todo = [step for step in self._steps() if not step.waits_for]
        controller.most = {goal.pool: max(goal.ahead, self._need(goal.pool)) for goal in controller.wanted}
        controller.seen_at = self.events

    def _steps(self) -> tuple[Step, ...]:
        seen = [world.seen(self.now) for world in self.worlds.values()]
        observed = Observation(
            nodes=tuple(nodes for each in seen for nodes in each.nodes),
            quotas=tuple(quota for each in seen for quota in each.quotas),
            grants=tuple(grant for each in seen for grant in each.grants),
        )
        return steps(self.plan, observed, (), self.now)

    def _need(self, name: str) -> int:
        world = self.worlds[name]
        return max(ceil(world.granted() / SLOTS), sum(world.bound(node) > 0 for node in world.nodes))

    @precondition(lambda self: any(controller.todo for controller in self.controllers))
    @rule(who=st.sampled_from([0, 1]), which=st.lists(st.integers(0, 3), min_size=1, max_size=6))
    def take(self, who: int, which: list[int]) -> None:
        """A controller takes some of its steps, not always the first: those that can be taken are safe in any order."""
        controller = self.controllers[who]
        for each in which[: len(controller.todo)]:
            step = controller.todo.pop(min(each, len(controller.todo) - 1))
            if controller.wanted != goals(self.plan, self.now):
                self.mixed.add(step.pool)
            self._take(step, controller)

    @rule(who=st.sampled_from([0, 1]), passes=st.integers(1, 3), seconds=st.sampled_from([0, 7, 61]))
    def carry(self, who: int, passes: int, seconds: int) -> None:
        """A controller looks and takes all that it can, some times."""
        for _ in range(passes):
            self.look(who)
            self.take(who, [0] * len(self.controllers[who].todo))
            self.wait(seconds)

    def _take(self, step: Step, controller: Controller) -> None:
        world = self.worlds[step.pool]
        pods = {name: dict(gang.nodes) for name, gang in world.gangs.items()}
        try:
            world.take(step, self.now)
        except ConflictError:
            return
        if step.kind is StepKind.ORDER:
            assert step.after <= controller.most[step.pool], "more was ordered than the plan or the grants need"
        assert all(node in world.nodes for nodes in pods.values() for node in nodes), "a gang lost its node"

    @rule(who=st.sampled_from([0, 1]))
    def kill(self, who: int) -> None:
        """A controller dies with what it had decided."""
        self.controllers[who].todo.clear()

    # what the world does

    @rule(seconds=st.sampled_from([1, 2, 6, 30, 61, 1800]))
    def wait(self, seconds: int) -> None:
        """Time passes; nodes that are away are started again."""
        self.now = min(self.now + timedelta(seconds=seconds), NOW + timedelta(hours=HOURS, seconds=-1))
        for world in self.worlds.values():
            world.grow(self.now)

    @rule(
        name=st.sampled_from(["a", "b"]), gangs=st.lists(st.integers(1, 10), min_size=1, max_size=8), late=st.booleans()
    )
    def ask(self, name: str, gangs: list[int], late: bool) -> None:
        """Gangs ask, at each place; what is admitted has nodes that can be used."""
        view = self.worlds[name].old_view(self.now) if late else None
        for slots in gangs:
            for place in self.worlds[name].places:
                if self.worlds[name].admit(place, slots, view) is not None:
                    self._check_granted(name)

    def _check_granted(self, name: str) -> None:
        world = self.worlds[name]
        there = len(world.open(self.now)) + len(self.excused[name])
        if name in self.mixed:  # decided for another hour: the nodes are cordoned still, and will be opened again
            there += sum(node.cordoned_at is not None for node in world.nodes.values())
        assert world.granted() <= there * SLOTS, "more was granted than there is"

    @rule(name=st.sampled_from(["a", "b"]), most=st.integers(1, 9))
    def bind(self, name: str, most: int) -> None:
        """The scheduler binds what waits."""
        for gang in list(self.worlds[name].gangs)[:most]:
            self.worlds[name].bind(gang, self.now)

    @rule(name=st.sampled_from(["a", "b"]), which=st.integers(0, 5))
    def end(self, name: str, which: int) -> None:
        """A gang ends."""
        world = self.worlds[name]
        for gang in list(world.gangs)[which : which + 1]:
            del world.gangs[gang]
            world.unprotected.discard(gang)

    @rule(name=st.sampled_from(["a", "b"]), which=st.integers(0, 5), broken=st.booleans())
    def lose(self, name: str, which: int, broken: bool) -> None:
        """A node is lost, or cannot be used any more."""
        world = self.worlds[name]
        for node in [node.name for node in world.open(self.now)][which : which + 1]:
            self.events += 1
            self.excused[name].append(self.events)
            if broken:
                world.nodes[node].broken = True
            else:
                world.lose(node)

    @rule(name=st.sampled_from(["a", "b"]), lacks=st.booleans())
    def lack(self, name: str, lacks: bool) -> None:
        """The engine has no machines, or has them again."""
        self.worlds[name].lacks = lacks
        self.worlds[name].grow(self.now)

    @rule(first=st.lists(st.integers(0, 6), min_size=HOURS, max_size=HOURS), second=st.integers(0, 6))
    def plan_again(self, first: list[int], second: int) -> None:
        """A new plan is published."""
        self.plan = self._plan({"a": first, "b": [second] * HOURS})

    @invariant()
    def forget(self) -> None:
        """What was excused is so only until the quotas have followed, and all have seen them."""
        oldest = min((each.seen_at for each in self.controllers if each.todo), default=self.events)
        for name, world in self.worlds.items():
            if world.promised() <= len(world.open(self.now)) * SLOTS and world.old_view(self.now) is None:
                self.excused[name] = [event for event in self.excused[name] if event > oldest]
                present = goals(self.plan, self.now)
                if all(not each.todo or each.wanted == present for each in self.controllers):
                    self.mixed.discard(name)

    def teardown(self) -> None:
        """Left in peace, the plan is reached; first beside the gangs that run, then exactly."""
        self._settle()
        for goal in goals(self.plan, self.now):
            world = self.worlds[goal.pool]
            afloat = sum(ceil(gang.afloat / SLOTS) for gang in world.gangs.values())
            kept = max(goal.ahead, sum(world.bound(node) > 0 for node in world.nodes) + afloat)
            assert world.ordered <= max(kept, len(world.nodes)), "what never came is still ordered"
        for world in self.worlds.values():
            world.lacks = False
            for node in world.nodes.values():
                node.broken = False
        self._settle()
        for world in self.worlds.values():
            assert not any(gang.afloat for gang in world.gangs.values()), "a granted gang has no place"
            world.gangs.clear()
            world.unprotected.clear()
        self._settle()
        assert self._steps() == ()
        for goal in goals(self.plan, self.now):
            world = self.worlds[goal.pool]
            assert (world.ordered, len(world.open(self.now))) == (goal.ahead, goal.ahead)
            assert world.promised() == goal.now * SLOTS

    def _settle(self) -> None:
        """Let one controller carry the plan out while nothing else happens."""
        idle = 0
        for _ in range(60):
            controller = Controller()
            doable = [step for step in self._steps() if not step.waits_for]
            controller.most = {goal.pool: max(goal.ahead, self._need(goal.pool)) for goal in goals(self.plan, self.now)}
            for step in doable:
                self._take(step, controller)
            for world in self.worlds.values():
                world.grow(self.now)
                for gang in world.gangs:
                    world.bind(gang, self.now)
            idle = 0 if doable or self.now < self._quiet_at() else idle + 1
            if idle == 2:  # what was cordoned just now has settled
                return
            self.now = min(self.now + timedelta(seconds=7), NOW + timedelta(hours=HOURS, seconds=-1))
        raise AssertionError(f"never at rest: {self._steps()}")

    def _quiet_at(self) -> datetime:
        """When the last node that was started can be used."""
        return max((node.usable_at for world in self.worlds.values() for node in world.nodes.values()), default=NOW)


@pytest.mark.searches
def test_plans_are_carried_out_whatever_happens() -> None:
    """No order of looks, steps, kills, losses and new plans breaks what must always hold; at rest it is reached."""
    run_state_machine_as_test(
        Carrying, settings=settings(max_examples=effort(60, 5_000), stateful_step_count=effort(40, 80))
    )
