"""Forecast and fleet in, plan out: the cheapest fleet that serves the demand, explained.

Names are imported when they are first asked for: who lists plans needs neither Pyomo nor HiGHS.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gangplan.extras import needs_extras

if TYPE_CHECKING:
    from gangplan.plan.answer.calendar import to_calendar
    from gangplan.plan.answer.words import explain
    from gangplan.plan.first_fleet import draft_fleet
    from gangplan.plan.make import nodes_of, pose_again, replay, solve, warm_up, write_lp
    from gangplan.plan.problem.catalogue import read_catalogue
    from gangplan.plan.problem.policy import PlanPolicy
    from gangplan.plan.problem.policy_file import read_plan_policy
    from gangplan.plan.problem.problem import Problem
    from gangplan.plan.questions.alternatives import Alternative, compare
    from gangplan.plan.questions.whatif import Answer, WhatIf, side_by_side
    from gangplan.plan.store import (
        is_approved,
        list_plans,
        log_alternatives,
        log_plan,
        mark,
        plan_before,
        plan_that_ran,
        read_alternatives,
        read_plan,
        read_published,
    )

with needs_extras():
    from gangplan.plan.answer.ordering import (  # at once: the name of a module, which would stand in its way later
        Order,
        orders,
    )

_HOMES = {
    "alternatives": ("Alternative", "compare"),
    "calendar": ("to_calendar",),
    "catalogue": ("read_catalogue",),
    "draft": ("draft_fleet",),
    "policy": ("PlanPolicy",),
    "policy_file": ("read_plan_policy",),
    "problem": ("Problem",),
    "solving": ("nodes_of", "pose_again", "replay", "solve", "warm_up", "write_lp"),
    "store": (
        "is_approved",
        "list_plans",
        "log_alternatives",
        "log_plan",
        "mark",
        "plan_before",
        "plan_that_ran",
        "read_alternatives",
        "read_plan",
        "read_published",
    ),
    "whatif": ("Answer", "WhatIf", "side_by_side"),
    "words": ("explain",),
}

__all__ = [
    "Alternative",
    "Answer",
    "Order",
    "PlanPolicy",
    "Problem",
    "WhatIf",
    "compare",
    "draft_fleet",
    "explain",
    "is_approved",
    "list_plans",
    "log_alternatives",
    "log_plan",
    "mark",
    "nodes_of",
    "orders",
    "plan_before",
    "plan_that_ran",
    "pose_again",
    "read_alternatives",
    "read_catalogue",
    "read_plan",
    "read_plan_policy",
    "read_published",
    "replay",
    "side_by_side",
    "solve",
    "to_calendar",
    "warm_up",
    "write_lp",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    for home, names in _HOMES.items():
        if name in names:
            with needs_extras():
                return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
