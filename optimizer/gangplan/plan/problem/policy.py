"""The plan's policy: what it may do with each workload class, and what it costs to bend a limit.

Money is in the fleet file's currency. A price given as a factor is a multiple of `settings.shortage_price`, the money
per GPU-hour of throughput work that could not be served. A file, `plan.yaml` in the home folder, changes any of it;
what it leaves out keeps its default.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gangplan.errors import InputError
from gangplan.plan.problem.catalogue import Need, Strict, read_catalogue
from gangplan.types import (
    ANY,
    CLASS_RULES,
    GridCarbon,
    PowerCurve,
    WorkloadClass,
    require_at_least,
    require_name,
    require_positive,
)
from gangplan.yaml_files import read_yaml, validated

OWN_CATALOGUE = "accelerators.yaml"


@dataclass(frozen=True, kw_only=True)
class ClassPolicy(Strict):
    """How a workload class may be served.

    `shortage_factor` prices a GPU-hour that is not served, `delay_factor` a GPU-hour that waits one hour. Work may wait
    `defer_hours`. `reserve` is the share of its expected demand that is kept free in addition, on capacity that is not
    interrupted; `zone_reserve` is the share that must still run when any one zone is lost (where pools are in several).
    Its data is in `data_region`: a GPU-hour elsewhere moves `data_gb_per_gpu_hour` at that region's egress price.
    """

    shortage_factor: float = 1.0
    defer_hours: int = 0
    delay_factor: float = 0.0
    spot: bool = True
    reserve: float = 0.0
    zone_reserve: float = 0.0
    data_region: str = ""
    data_gb_per_gpu_hour: float = 0.0

    def __post_init__(self) -> None:
        require_positive("classes.shortage_factor", self.shortage_factor)
        for name in ("defer_hours", "delay_factor", "reserve", "zone_reserve", "data_gb_per_gpu_hour"):
            require_at_least(f"classes.{name}", getattr(self, name), 0)


CLASS_POLICY: dict[WorkloadClass, ClassPolicy] = {
    WorkloadClass.LATENCY: ClassPolicy(**vars(CLASS_RULES[WorkloadClass.LATENCY]), reserve=0.1, zone_reserve=1.0),
    WorkloadClass.THROUGHPUT: ClassPolicy(**vars(CLASS_RULES[WorkloadClass.THROUGHPUT]), delay_factor=0.01),
    WorkloadClass.COST: ClassPolicy(**vars(CLASS_RULES[WorkloadClass.COST]), delay_factor=0.002),
}


@dataclass(frozen=True, kw_only=True)
class QuotaShare(Strict):
    """GPUs of one accelerator that a tenant may use: its own, and what it may borrow (None: all of its cohort)."""

    nominal: float
    borrow: float | None = None

    def __post_init__(self) -> None:
        require_at_least("quotas.nominal", self.nominal, 0)
        require_at_least("quotas.borrow", self.borrow or 0, 0)


@dataclass(frozen=True, kw_only=True)
class TenantQuota(Strict):
    """A tenant's shares by accelerator (`any`: of all together), and the cohort that it borrows from."""

    shares: dict[str, QuotaShare] = field(default_factory=dict[str, QuotaShare])
    cohort: str = ""


@dataclass(frozen=True, kw_only=True)
class SupplyRisk(Strict):
    """A failure of capacity: on `share_of_paths` of the paths, for `hours`, only the share `left` of it works."""

    share_of_paths: float = 0.0
    hours: int = 12
    left: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share_of_paths", "left"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"risk.{name}", getattr(self, name), "must be from 0 to 1")
        require_at_least("risk.hours", self.hours, 1)


@dataclass(frozen=True, kw_only=True)
class PlanPolicy(Strict):
    """The plan's rules as data.

    `speeds` says which other accelerators may do a series' work, and how fast against the one that it asks for (asked
    for -> accelerator -> factor; `any` runs on all at 1 unless said). `carbon_cap_kg` bounds the horizon's emissions,
    softly at `carbon_over_price` per kg; `carbon_price_per_kg` is what each kg counts as money anyway. `change_hours`
    are the node-hours that a node more or less than in the last plan must be worth. `egress_per_gb` is money per GB
    that leaves a region. `needs` are names that series may ask for instead of an accelerator, by capability: a policy
    file's are looked up in the catalogue and written into `speeds` when it is read. `curves` say what work does under
    caps, and `grid` what the regions' grids emit: both are measured, and kept in files of their own. `grid_of` names
    the grid of a region that is called otherwise, as `eu-west-1: IRL`.
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
    curves: tuple[PowerCurve, ...] = ()
    grid: dict[str, GridCarbon] = field(default_factory=dict[str, GridCarbon])
    grid_of: dict[str, str] = field(default_factory=dict[str, str])

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
        kinds = [(curve.workload_class, curve.accelerator) for curve in self.curves]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise InputError("curves", "/".join(kind), "stands twice: leave one of the curves out")

    def of(self, kind: WorkloadClass) -> ClassPolicy:
        """Return the policy of a class."""
        return self.classes.get(kind, CLASS_POLICY[kind])

    def egress(self, kind: WorkloadClass, region: str) -> float:
        """Return money for the data that a GPU-hour of a class moves when it runs in a region."""
        rule = self.of(kind)
        moves = bool(rule.data_region) and region != rule.data_region
        return rule.data_gb_per_gpu_hour * self.egress_per_gb.get(rule.data_region, 0.0) if moves else 0.0

    def curve(self, kind: WorkloadClass, accelerator: str) -> PowerCurve | None:
        """Return what work of a class does under caps on an accelerator, if that was measured."""
        same = (curve for curve in self.curves if (curve.workload_class, curve.accelerator) == (kind, accelerator))
        return next(same, None)

    def speed(self, asked: str, accelerator: str) -> float:
        """Return how fast an accelerator does what asks for another; 0 where it may not."""
        same = 1.0 if asked in (ANY, accelerator) else 0.0
        return self.speeds.get(asked, {}).get(accelerator, same)


START_HOURS = 0.5
"""Node-hours that avoiding one start is worth: a preference, not money paid. Raised: plans change less often."""

LOST_HOURS_PER_INTERRUPTION = 1.0
"""Node-hours of work and waiting that a spot interruption costs: at a rate r per hour, 1 - r * this is usable."""

RESERVE_FACTOR = 0.25
"""Price factor per GPU-hour that the reserves for latency or for a lost zone lack. Raised: more idle nodes."""

BELOW_MINIMUM_FACTOR = 2.0
"""Price factor per GPU-hour that a pool runs below its minimum (before its lead time is over)."""

OVER_BUDGET_PRICE = 100.0
"""Money per unit of money spent over the budget: so high that demand goes unserved first."""

RISK_WEIGHT = 0.2
"""Share of the objective on the worst scenarios (CVaR) instead of the mean. Raised: more nodes for rare peaks."""

RISK_TAIL = 0.2
"""Share of the scenarios that count as the worst."""

SLOWER_FACTOR = 1e-4
"""Price factor per GPU-hour that a cap loses: so small that it only keeps caps away that save nothing."""

HOUR_CORRELATION = 0.9
"""The share of one hour's forecast error that continues in the next (AR(1)). Raised: longer peaks on a path."""

SERIES_CORRELATION = 0.3
"""The share of the forecast error that all series have in common. Raised: peaks of all series coincide more often."""

_POLICY = TypeAdapter(PlanPolicy)


def read_plan_policy(path: Path) -> PlanPolicy:
    """Read a policy file; without one the default holds. `speeds` gets what the catalogue beside it gives for needs."""
    if not path.exists():
        return PlanPolicy()
    document = read_yaml(path, "plan policy")
    with document.naming_lines():
        policy, catalogue = policy_from(document.body or {}), read_catalogue(path.with_name(OWN_CATALOGUE))
        able = {name: catalogue.speeds(name, need) for name, need in policy.needs.items()}
        # Speeds that the policy names stay.
        named = {name: factors | policy.speeds.get(name, {}) for name, factors in able.items()}
        return replace(policy, speeds={**policy.speeds, **named})


def policy_from(body: Any) -> PlanPolicy:
    """Read a policy from plain values; a mistake is named by its path."""
    return validated(_POLICY, body, "plan policy")


def policy_body(policy: PlanPolicy) -> dict[str, Any]:
    """Return a policy as plain values, from which `policy_from` reads the same policy."""
    body: dict[str, Any] = _POLICY.dump_python(policy, mode="json")
    return body
