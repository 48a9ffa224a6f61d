"""The steps of a plan on both clouds: up before the hour, down by name, and never a machine under a grant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.execute.cloud.conftest import MakeEc2, MakeGce, Played

from gangplan.execute import Goal
from gangplan.execute.all_steps import steps_to
from gangplan.testing import NOW
from gangplan.types import Grant, StepKind


@pytest.fixture(params=["ec2", "gce"])
def played(request: pytest.FixtureRequest) -> Played:
    """A group of two machines whose clock the test moves."""
    make: MakeEc2 | MakeGce = request.getfixturevalue(f"make_{request.param}")
    return make(2)


def carry(played: Played, goal: Goal, grants: tuple[Grant, ...], now: list[datetime]) -> list[StepKind]:
    """Take the steps to the goal, at a moment later each time, until none can be taken; return their kinds."""
    taken: list[StepKind] = []
    target: Any = played.target
    target._clock = lambda: now[0]
    for _ in range(10):
        now[0] += timedelta(seconds=10)
        due = [step for step in steps_to((goal,), target.observe(), grants, now[0]) if not step.waits_for]
        if not due:
            return taken
        for step in due:
            target.apply(step)
            taken.append(step.kind)
    raise AssertionError("the steps do not end")


def test_a_plan_goes_up_and_down(played: Played) -> None:
    """Two machines become four, then one: the one under a grant, though it is not the last by name."""
    now = [NOW]
    goal = Goal(pool="h100", now=2, ahead=4, slots_per_node=8)
    assert carry(played, goal, (), now) == [StepKind.ORDER]
    assert sum(node.usable for node in played.seen().nodes) == 4
    held = played.names()[1]
    grant = Grant(name="train", pool="h100", slots=8, nodes={held: 8})
    goal = Goal(pool="h100", now=0, ahead=0, slots_per_node=8)
    assert carry(played, goal, (grant,), now) == [StepKind.CORDON, StepKind.REMOVE]
    played.seen()
    assert (played.names(), played.seen().ordered) == ([held], 1)


def test_what_never_came_is_withdrawn(played: Played) -> None:
    """Four were ordered and one came; the plan falls, and the rest is not bought when there is capacity again."""
    now = [NOW]
    world: Any = played.world
    world.stock = 1
    carry(played, Goal(pool="h100", now=2, ahead=6, slots_per_node=8), (), now)
    assert (played.seen().ordered, len(played.names())) == (6, 3)
    carry(played, Goal(pool="h100", now=2, ahead=2, slots_per_node=8), (), now)
    world.stock = 10
    for _ in range(3):
        played.seen()
    assert (played.seen().ordered, len(played.names()), world.launched) == (2, 2, 1)
