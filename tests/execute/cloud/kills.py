"""A process that dies after any call to a cloud, and what brings a group to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.execute.cloud.conftest import Played

from gangplan.types import StepKind


class KilledError(BaseException):
    """The process died; no `except` of ours may hold it up."""


@dataclass
class Doom:
    """After how many more calls the process dies; None: it lives."""

    left: int | None = None

    def strike(self, *_: Any, **more: Any) -> None:
        """Die once the server has done what the call asked for."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KilledError


def carry(played: Played, plan: int, held: set[str]) -> None:
    """Bring the group to the plan, one step for each look at it; machines that are held stay."""
    for _ in range(20):
        seen = played.seen()
        there = [node for node in seen.nodes if not node.leaving]
        cordoned = [node.name for node in there if node.cordoned_at]
        if seen.ordered <= plan and cordoned:
            played.step(StepKind.UNCORDON, seen.ordered, *cordoned, before=seen.ordered)
        elif seen.ordered < plan:
            played.step(StepKind.ORDER, plan, before=seen.ordered)
        elif seen.ordered == plan:
            return
        elif len(cordoned) < len(there) - plan:
            free = [node.name for node in there if not node.cordoned_at and node.name not in held]
            chosen = free[: len(there) - plan - len(cordoned)]
            played.step(StepKind.CORDON, seen.ordered, *chosen, before=seen.ordered)
        else:
            chosen = cordoned[: max(0, len(there) - plan)]
            played.step(StepKind.REMOVE, plan, *chosen, before=seen.ordered)
    raise AssertionError("the plan was not reached")


def survive(played: Played, doom: Doom, rounds: list[tuple[int, int, int]]) -> None:
    """Plans, stocks and deaths: in the end the group was told the plan, for what the plans asked and no more."""
    world: Any = played.world
    held = {played.names()[0]}
    for plan, stock, dies_after in rounds:
        world.stock, goal = stock, max(plan, len(held))
        bought, before = world.launched, played.seen()
        there = [node for node in before.nodes if not node.leaving and node.usable]
        most = max(goal, before.ordered) - len(there)
        doom.left = dies_after
        try:
            carry(played, goal, held)
        except KilledError:
            pass
        finally:
            doom.left = None
        carry(played, goal, held)
        now = played.seen()
        staying = {node.name for node in now.nodes if not node.leaving}
        assert now.ordered == goal
        assert len(staying) <= goal
        assert world.launched - bought <= max(0, most), "something was bought twice"
        assert held <= staying, "a machine that is held was removed"
