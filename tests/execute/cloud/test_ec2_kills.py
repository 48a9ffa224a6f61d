"""A process that dies after any call to AWS: the next one reaches the plan, and nothing was bought twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.effort import examples
from tests.execute.cloud.conftest import Ec2, MakeEc2, client

from gangplan.types import StepKind


class KilledError(BaseException):
    """The process died; no `except` of ours may hold it up."""


@dataclass
class Doom:
    """After how many more calls the process dies; None: it lives."""

    left: int | None = None

    def strike(self, **_: Any) -> None:
        """Die once the server has done what the call asked for."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KilledError


DOOM = Doom()


@cache
def doomed(service: str, region: str, *, retries: bool = True) -> Any:
    """Return a client that dies when it is told to."""
    made = client.__wrapped__(service, region, retries=retries)
    made.meta.events.register("after-call", DOOM.strike)
    return made


def carry(ec2: Ec2, plan: int, held: set[str]) -> None:
    """Bring the group to the plan, one step for each look at it; machines that are held stay."""
    goal = max(plan, len(held))
    for _ in range(20):
        seen = ec2.seen()
        there = [node for node in seen.nodes if not node.leaving]
        cordoned = [node.name for node in there if node.cordoned_at]
        if seen.ordered <= goal and cordoned:
            ec2.step(StepKind.UNCORDON, seen.ordered, *cordoned, before=seen.ordered)
        elif seen.ordered < goal:
            ec2.step(StepKind.ORDER, goal, before=seen.ordered)
        elif seen.ordered == goal:
            return
        elif len(cordoned) < len(there) - goal:
            free = [node.name for node in there if not node.cordoned_at and node.name not in held]
            chosen = free[: len(there) - goal - len(cordoned)]
            ec2.step(StepKind.CORDON, seen.ordered, *chosen, before=seen.ordered)
        else:
            chosen = cordoned[: max(0, len(there) - goal)]
            ec2.step(StepKind.REMOVE, goal, *chosen, before=seen.ordered)
    raise AssertionError("the plan was not reached")


@pytest.fixture
def killed_ec2(make_ec2: MakeEc2) -> Ec2:
    """A group of two machines, whose reader may die."""
    ec2 = make_ec2(2, connect=doomed)
    ec2.world.boot = 1
    return ec2


ROUNDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=4)


@given(rounds=ROUNDS)
@examples(12, 500)
def test_a_killed_process_buys_nothing_twice(killed_ec2: Ec2, rounds: list[tuple[int, int, int]]) -> None:
    """Plans, stocks and deaths: in the end the group was told the plan, for what the plans asked and no more."""
    ec2, world = killed_ec2, killed_ec2.world
    held = {ec2.names()[0]}
    for plan, stock, dies_after in rounds:
        world.stock = stock
        before, bought = ec2.seen(), world.launched
        DOOM.left = dies_after
        try:
            carry(ec2, plan, held)
        except KilledError:
            pass
        finally:
            DOOM.left = None
        carry(ec2, plan, held)
        goal, now = max(plan, len(held)), ec2.seen()
        assert now.ordered == goal
        assert len(now.nodes) <= goal
        assert world.launched - bought <= max(0, goal - len(before.nodes)), "something was bought twice"
        assert held <= {node.name for node in now.nodes}, "a machine that is held was removed"
        assert len(now.nodes) == goal or now.trouble, "machines lack, and nobody says why"
