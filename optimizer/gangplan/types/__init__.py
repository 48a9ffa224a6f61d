"""The values that stages hand over: frozen, keyword-only, checked when they are made.

    Usage -> Forecast -> Plan -> CapacityCalendar -> Reservation -> Outcome -> Beliefs -> (the next Forecast)

Tables inside them are Polars frames with the schemas of `gangplan.tables`. Polars itself comes with the extras
`forecast` and `plan`; the values of a reservation need nothing but the standard library.
"""

from gangplan.types.checks import (
    require_at_least,
    require_items,
    require_name,
    require_positive,
    require_slot,
    require_span,
    require_text,
    require_type,
    require_whole,
)
from gangplan.types.demand import QUANTILES, SERIES, Beliefs, Forecast, Training, Usage, WorkloadClass
from gangplan.types.fleet import LAB, WHOLE_GPU, Fleet, Pool, PoolKind, Term
from gangplan.types.gang import GangRequest, Level, PodSet, Topology
from gangplan.types.outcome import Learning, Outcome, Score
from gangplan.types.plan import CapacityCalendar, CapacityInterval, NodeChange, Plan, PlanId
from gangplan.types.purchases import Commitments, Earning, PoolFull, Purchase, Way
from gangplan.types.reservation import (
    FreeCapacity,
    Limit,
    NodeState,
    Notice,
    Placement,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
)

__all__ = [
    "Beliefs",
    "CapacityCalendar",
    "CapacityInterval",
    "Commitments",
    "Earning",
    "Fleet",
    "Forecast",
    "FreeCapacity",
    "GangRequest",
    "LAB",
    "Learning",
    "Level",
    "Limit",
    "NodeChange",
    "NodeState",
    "Notice",
    "Outcome",
    "Placement",
    "Plan",
    "PlanId",
    "PodSet",
    "Pool",
    "PoolFull",
    "PoolKind",
    "Purchase",
    "QUANTILES",
    "Reason",
    "Reservation",
    "ReservationId",
    "ReservationState",
    "SERIES",
    "Score",
    "Term",
    "Token",
    "Topology",
    "Training",
    "Usage",
    "WHOLE_GPU",
    "Way",
    "WorkloadClass",
    "require_at_least",
    "require_items",
    "require_name",
    "require_positive",
    "require_slot",
    "require_span",
    "require_text",
    "require_type",
    "require_whole",
]
