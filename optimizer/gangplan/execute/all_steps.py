"""From a plan and what engines have to the steps between: one pure function, so that steps can be shown and tested."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gangplan.execute.node_steps import node_steps
from gangplan.execute.pool_state import pool_states
from gangplan.execute.quota_steps import quota_steps
from gangplan.execute.wanted import Goal, goals
from gangplan.types import Grant, Observation, Plan, Step, StepKind

_ORDER = {kind: place for place, kind in enumerate(StepKind)}


def steps(plan: Plan, observed: Observation, grants: Iterable[Grant], now: datetime) -> tuple[Step, ...]:
    """Return the steps to the plan's present hour, in the order in which they are taken.

    Steps that must wait are in it too, and say for what. Those that can be taken are safe in any order, and each may
    fail without harm to what was before it. `grants` are those that the engines do not know, such as a ledger's.
    `now` is a moment before the observation began.

    Raises
    ------
    InputError
        The plan does not cover `now`, or it has a pool that is not in its fleet.
    """
    return steps_to(goals(plan, now), observed, grants, now)


def steps_to(wanted: Iterable[Goal], observed: Observation, grants: Iterable[Grant], now: datetime) -> tuple[Step, ...]:
    """Return the steps to goals, as `steps` does for a plan."""
    found = [
        step
        for state in pool_states(wanted, observed, grants, now)
        for step in (*quota_steps(state), *node_steps(state, now))
    ]
    return tuple(sorted(found, key=lambda step: _ORDER[step.kind]))
