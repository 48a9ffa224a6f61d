from .answer import explain as explain, order_text as order_text, orders as orders, to_calendar as to_calendar
from .first_fleet import draft_fleet as draft_fleet
from .make import rebuild_problem as rebuild_problem, replay as replay, solve as solve
from .problem import (
    AcceleratorKind as AcceleratorKind,
    Need as Need,
    PlanPolicy as PlanPolicy,
    Problem as Problem,
    QuotaShare as QuotaShare,
    TenantQuota as TenantQuota,
    nodes_of as nodes_of,
    read_catalogue as read_catalogue,
    read_plan_policy as read_plan_policy,
)
from .purchases import (
    History as History,
    LongDemand as LongDemand,
    PurchaseHorizon as PurchaseHorizon,
    demand_from_growth as demand_from_growth,
    demand_from_table as demand_from_table,
    plan_purchases as plan_purchases,
)
from .questions import (
    Alternative as Alternative,
    WhatIf as WhatIf,
    WhatIfResult as WhatIfResult,
    ask as ask,
    compare as compare,
    side_by_side as side_by_side,
)
from .store import (
    is_approved as is_approved,
    is_published as is_published,
    is_rejected as is_rejected,
    list_plans as list_plans,
    log_alternatives as log_alternatives,
    log_plan as log_plan,
    log_report as log_report,
    mark as mark,
    plan_before as plan_before,
    plan_made_once as plan_made_once,
    plan_that_ran as plan_that_ran,
    read_alternatives as read_alternatives,
    read_plan as read_plan,
    read_published as read_published,
)
