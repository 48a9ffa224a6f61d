"""What the plan may do with each workload class, and the prices of bending a limit: data, not code.

Money is the fleet file's currency. Prices given as a factor are multiples of `settings.shortage_price`, the money per
GPU-hour of throughput work that could not be served.
"""

from __future__ import annotations

from dataclasses import dataclass

from gangplan.types import WorkloadClass


@dataclass(frozen=True, kw_only=True)
class ClassPolicy:
    """How a workload class may be served.

    `shortage_factor` prices a GPU-hour that is not served, `delay_factor` a GPU-hour that waits one hour; work may wait
    `defer_hours`; `reserve` is the share of its expected demand kept on top on capacity that is not interrupted.
    """

    shortage_factor: float
    defer_hours: int
    delay_factor: float
    spot: bool
    reserve: float


CLASS_POLICY: dict[WorkloadClass, ClassPolicy] = {
    WorkloadClass.LATENCY: ClassPolicy(shortage_factor=3.0, defer_hours=0, delay_factor=0.0, spot=False, reserve=0.1),
    WorkloadClass.THROUGHPUT: ClassPolicy(
        shortage_factor=1.0, defer_hours=12, delay_factor=0.01, spot=True, reserve=0.0
    ),
    WorkloadClass.COST: ClassPolicy(shortage_factor=0.5, defer_hours=24, delay_factor=0.002, spot=True, reserve=0.0),
}

START_HOURS = 0.5
"""Node-hours that one start is worth avoiding, so that plans do not flutter; a preference, not money paid."""

LOST_HOURS_PER_INTERRUPTION = 1.0
"""Node-hours of work and waiting that one spot interruption costs: a rate r derates the pool to 1 - r * this."""

RESERVE_FACTOR = 0.25
"""Price factor per GPU-hour that the latency reserve lacks."""

BELOW_MINIMUM_FACTOR = 2.0
"""Price factor per GPU-hour that a pool runs below its minimum (before its lead time is over)."""

OVER_BUDGET_PRICE = 100.0
"""Money per money spent over the budget: dear enough that demand gives way first."""

RISK_WEIGHT = 0.2
"""Share of the objective that looks at the worst scenarios (CVaR) instead of the mean."""

RISK_TAIL = 0.2
"""Share of the scenarios that count as the worst."""

HOUR_CORRELATION = 0.9
"""How much of one hour's forecast error goes on in the next (AR(1))."""

SERIES_CORRELATION = 0.3
"""How much of the forecast error all series have in common."""
