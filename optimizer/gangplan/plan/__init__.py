"""Forecast and fleet in, plan out: the cheapest fleet that serves the demand, explained."""

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.plan.calendar import to_calendar
    from gangplan.plan.draft import draft_fleet
    from gangplan.plan.solve import replay, solve, write_lp
    from gangplan.plan.store import log_plan, plan_that_ran, read_plan
    from gangplan.plan.words import explain

__all__ = [
    "draft_fleet",
    "explain",
    "log_plan",
    "plan_that_ran",
    "read_plan",
    "replay",
    "solve",
    "to_calendar",
    "write_lp",
]
