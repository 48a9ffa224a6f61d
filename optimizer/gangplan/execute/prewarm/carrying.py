"""Serving carried out: look, find the steps, take each that can be taken; one that is refused holds up no other.

Nothing is remembered from one pass to the next, so a process that dies is followed by one that looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gangplan.errors import ConflictError, GangplanError, UnavailableError
from gangplan.execute.prewarm.minimums import minimums, undone
from gangplan.execute.prewarm.target import ServingTarget
from gangplan.execute.prewarm.values import MinimumStep
from gangplan.types import Forecast, Plan

_LOOKS = 3
"""How often is looked again, in one pass, where somebody else has changed a number meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What one pass did, and what is left: steps that wait, each with its reason, and those that were refused.

    In a dry run `done` are the steps that the cluster would take.
    """

    done: tuple[MinimumStep, ...] = ()
    left: tuple[MinimumStep, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether all minimums are as the plan wants them."""
        return not self.left


def keep_serving(
    target: ServingTarget, plan: Plan, forecast: Forecast, now: datetime, *, dry_run: bool = False
) -> Served:
    """Bring the servers' minimums to the plan.

    Raises
    ------
    InputError
        The plan does not cover `now`, or the forecast is not the one that it was made from.
    UnavailableError
        The cluster cannot be reached; to serve again is safe.
    """
    done: tuple[MinimumStep, ...] = ()
    left: tuple[MinimumStep, ...] = ()
    for _ in range(1 if dry_run else _LOOKS):
        found = minimums(plan, forecast, list(target.serving.values()), target.observe(), now)
        tried = [_take(target, step, dry_run=dry_run) for step in found]
        done += tuple(step for step, kept in zip(found, tried, strict=True) if kept is None)
        left = tuple(step for step in tried if step is not None)
        if not any(step.overtaken for step in left):
            break
    return Served(done=done, left=left)


def _take(target: ServingTarget, step: MinimumStep, *, dry_run: bool) -> MinimumStep | None:
    """Take a step; return it with what it waits for where that was not possible."""
    if step.waits_for:
        return step
    try:
        target.apply(step, dry_run=dry_run)
    except UnavailableError:
        raise
    except GangplanError as error:  # in the cluster's words
        return replace(step, waits_for=str(error), overtaken=isinstance(error, ConflictError))
    return None


def take_back_serving(target: ServingTarget, steps: Sequence[MinimumStep]) -> Served:
    """Take steps back, the last first; a number that has changed since is left as it is."""
    back = [undone(step) for step in reversed(steps)]
    tried = [_take(target, step, dry_run=False) for step in back]
    return Served(
        done=tuple(step for step, left in zip(back, tried, strict=True) if left is None),
        left=tuple(step for step in tried if step is not None),
    )
