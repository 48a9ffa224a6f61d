"""What the plan may do with each workload class, and the prices of bending a limit: data, not code.

Money is the fleet file's currency. Prices given as a factor are multiples of `settings.shortage_price`, the money per
GPU-hour of throughput work that could not be served. A policy file (`plan.yaml` in the home folder) changes any of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gangplan.errors import InputError
from gangplan.plan.problem.catalogue import Need
from gangplan.types import WorkloadClass, require_at_least, require_name, require_positive

ANY = "any"
"""The accelerator of a series that any pool may serve; as a quota's accelerator: all of them together."""

_STRICT: dict[str, str] = {"extra": "forbid"}  # a misspelt field of the policy file is refused


@dataclass(frozen=True, kw_only=True)
class ClassPolicy:
    """How a workload class may be served.

    `shortage_factor` prices a GPU-hour that is not served, `delay_factor` a GPU-hour that waits one hour; work may wait
    `defer_hours`; `reserve` is the share of its expected demand kept on top on capacity that is not interrupted;
    `zone_reserve` the share of it that must still run when any one zone is lost (where pools stand in several). Its
    data stands in `data_region`: a GPU-hour elsewhere moves `data_gb_per_gpu_hour` at the region's egress price.
    """

    shortage_factor: float = 1.0
    defer_hours: int = 0
    delay_factor: float = 0.0
    spot: bool = True
    reserve: float = 0.0
    zone_reserve: float = 0.0
    data_region: str = ""
    data_gb_per_gpu_hour: float = 0.0

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        require_positive("classes.shortage_factor", self.shortage_factor)
        for name in ("defer_hours", "delay_factor", "reserve", "zone_reserve", "data_gb_per_gpu_hour"):
            require_at_least(f"classes.{name}", getattr(self, name), 0)


CLASS_POLICY: dict[WorkloadClass, ClassPolicy] = {
    WorkloadClass.LATENCY: ClassPolicy(shortage_factor=3.0, spot=False, reserve=0.1, zone_reserve=1.0),
    WorkloadClass.THROUGHPUT: ClassPolicy(shortage_factor=1.0, defer_hours=12, delay_factor=0.01),
    WorkloadClass.COST: ClassPolicy(shortage_factor=0.5, defer_hours=24, delay_factor=0.002),
}


@dataclass(frozen=True, kw_only=True)
class Share:
    """GPUs of one accelerator that a tenant may hold: its own, and what it may borrow (None: what its cohort has)."""

    nominal: float
    borrow: float | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        require_at_least("quotas.nominal", self.nominal, 0)
        require_at_least("quotas.borrow", self.borrow or 0, 0)


@dataclass(frozen=True, kw_only=True)
class TenantQuota:
    """A tenant's shares by accelerator (`any`: of all together), and the cohort that it borrows from."""

    shares: dict[str, Share] = field(default_factory=dict[str, Share])
    cohort: str = ""

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT


@dataclass(frozen=True, kw_only=True)
class SupplyRisk:
    """What may happen to capacity: on a share of the paths, for some hours, only a part of it is left."""

    share_of_paths: float = 0.0
    hours: int = 12
    left: float = 0.0

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        for name in ("share_of_paths", "left"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"risk.{name}", getattr(self, name), "must be from 0 to 1")
        require_at_least("risk.hours", self.hours, 1)


@dataclass(frozen=True, kw_only=True)
class PlanPolicy:
    """The plan's rules as data.

    `speeds` says which other accelerators may do a series' work, and how fast against the one that it asks for (asked
    for -> accelerator -> factor; `any` runs on all at 1 unless said). `carbon_cap_kg` bounds the horizon's emissions,
    softly at `carbon_over_price` per kg; `carbon_price_per_kg` is what each kg counts as money anyway. `change_hours`
    are the node-hours that a node more or less than in the last plan must be worth. `egress_per_gb` is money per GB
    that leaves a region. `needs` are names that series may ask for instead of an accelerator, by capability: a policy
    file's are looked up in the catalogue and written into `speeds` when it is read.
    """

    classes: dict[WorkloadClass, ClassPolicy] = field(default_factory=dict[WorkloadClass, ClassPolicy])
    speeds: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    quotas: dict[str, TenantQuota] = field(default_factory=dict[str, TenantQuota])
    spot_drought: SupplyRisk = SupplyRisk()
    lost_zone: SupplyRisk = SupplyRisk()
    carbon_cap_kg: float | None = None
    carbon_price_per_kg: float = 0.0
    carbon_over_price: float = 10.0
    change_hours: float = 0.1
    egress_per_gb: dict[str, float] = field(default_factory=dict[str, float])
    needs: dict[str, Need] = field(default_factory=dict[str, Need])

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        if self.carbon_cap_kg is not None:
            require_positive("carbon_cap_kg", self.carbon_cap_kg)
        for name in ("carbon_price_per_kg", "carbon_over_price", "change_hours"):
            require_at_least(name, getattr(self, name), 0)
        for asked, others in self.speeds.items():
            require_name("speeds", asked)
            for name, factor in others.items():
                require_positive(f"speeds[{asked}][{name}]", factor)
        for name in self.needs:
            require_name("needs", name)
        for tenant in self.quotas:
            require_name("quotas", tenant)
        for region, price in self.egress_per_gb.items():
            require_at_least(f"egress_per_gb[{region}]", price, 0)

    def of(self, kind: WorkloadClass) -> ClassPolicy:
        """Return a class's rules."""
        return self.classes.get(kind, CLASS_POLICY[kind])

    def egress(self, kind: WorkloadClass, region: str) -> float:
        """Return money for the data that a GPU-hour of a class moves when it runs in a region."""
        rule = self.of(kind)
        moves = bool(rule.data_region) and region != rule.data_region
        return rule.data_gb_per_gpu_hour * self.egress_per_gb.get(rule.data_region, 0.0) if moves else 0.0

    def speed(self, asked: str, accelerator: str) -> float:
        """Return how fast an accelerator does what asks for another; 0 where it may not."""
        same = 1.0 if asked in (ANY, accelerator) else 0.0
        return self.speeds.get(asked, {}).get(accelerator, same)


START_HOURS = 0.5
"""Node-hours that one start is worth avoiding, so that plans do not flutter; a preference, not money paid."""

LOST_HOURS_PER_INTERRUPTION = 1.0
"""Node-hours of work and waiting that one spot interruption costs: a rate r derates the pool to 1 - r * this."""

RESERVE_FACTOR = 0.25
"""Price factor per GPU-hour that the latency reserve, or the reserve for a lost zone, lacks."""

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
