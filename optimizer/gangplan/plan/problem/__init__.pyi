from .builder import build_problem as build_problem, nodes_of as nodes_of, workload_of as workload_of
from .catalogue import (
    AcceleratorKind as AcceleratorKind,
    Catalogue as Catalogue,
    Need as Need,
    Price as Price,
    read_catalogue as read_catalogue,
)
from .periods import Array as Array, Blocks as Blocks, Counts as Counts, Periods as Periods
from .policy import (
    BELOW_MINIMUM_FACTOR as BELOW_MINIMUM_FACTOR,
    OVER_BUDGET_PRICE as OVER_BUDGET_PRICE,
    RESERVE_FACTOR as RESERVE_FACTOR,
    RISK_TAIL as RISK_TAIL,
    RISK_WEIGHT as RISK_WEIGHT,
    SLOWER_FACTOR as SLOWER_FACTOR,
    PlanPolicy as PlanPolicy,
    QuotaShare as QuotaShare,
    TenantQuota as TenantQuota,
    policy_body as policy_body,
    policy_from as policy_from,
    read_plan_policy as read_plan_policy,
)
from .power import Mode as Mode, counts_by_grid as counts_by_grid
from .problem import Problem as Problem, Series as Series
from .scenarios import arrivals as arrivals
