from .catalogue import (
    AcceleratorKind as AcceleratorKind,
    Catalogue as Catalogue,
    Need as Need,
    Price as Price,
    read_catalogue as read_catalogue,
)
from .forecast_table import Array as Array, Series as Series
from .periods import Blocks as Blocks, Periods as Periods
from .policy import (
    ANY as ANY,
    BELOW_MINIMUM_FACTOR as BELOW_MINIMUM_FACTOR,
    OVER_BUDGET_PRICE as OVER_BUDGET_PRICE,
    RESERVE_FACTOR as RESERVE_FACTOR,
    RISK_TAIL as RISK_TAIL,
    RISK_WEIGHT as RISK_WEIGHT,
    PlanPolicy as PlanPolicy,
    Share as Share,
    TenantQuota as TenantQuota,
)
from .policy_file import policy_body as policy_body, policy_from as policy_from, read_plan_policy as read_plan_policy
from .problem import Counts as Counts, Problem as Problem, pose as pose, workload_of as workload_of
from .startup import arrivals as arrivals
