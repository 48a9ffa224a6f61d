"""Forecast and fleet in, plan out: the cheapest fleet that serves the demand, explained."""

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.plan.alternatives import Alternative, compare
    from gangplan.plan.calendar import to_calendar
    from gangplan.plan.catalogue import read_catalogue
    from gangplan.plan.draft import draft_fleet
    from gangplan.plan.orders import Order, orders
    from gangplan.plan.policy import PlanPolicy
    from gangplan.plan.policy_file import read_plan_policy
    from gangplan.plan.problem import Problem
    from gangplan.plan.solve import nodes_of, pose_again, replay, solve, warm_up, write_lp
    from gangplan.plan.store import (
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
    from gangplan.plan.whatif import Answer, WhatIf, side_by_side
    from gangplan.plan.words import explain

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
