from .answer import explain as explain, order_text as order_text, orders as orders, to_calendar as to_calendar
from .first_fleet import draft_fleet as draft_fleet
from .make import nodes_of as nodes_of, pose_again as pose_again, replay as replay, solve as solve, warm_up as warm_up
from .problem import (
    AcceleratorKind as AcceleratorKind,
    Need as Need,
    PlanPolicy as PlanPolicy,
    Problem as Problem,
    Share as Share,
    TenantQuota as TenantQuota,
    read_catalogue as read_catalogue,
    read_plan_policy as read_plan_policy,
)
from .purchases import (
    BEYOND as BEYOND,
    LongDemand as LongDemand,
    buy_ahead as buy_ahead,
    days_of as days_of,
    from_table as from_table,
    monthly_paths as monthly_paths,
    pose_horizon as pose_horizon,
    read_demand_table as read_demand_table,
    typical_weeks as typical_weeks,
    with_offers as with_offers,
)
from .questions import (
    Alternative as Alternative,
    Answer as Answer,
    WhatIf as WhatIf,
    compare as compare,
    side_by_side as side_by_side,
)
from .store import (
    is_approved as is_approved,
    list_plans as list_plans,
    log_alternatives as log_alternatives,
    log_plan as log_plan,
    mark as mark,
    plan_before as plan_before,
    plan_that_ran as plan_that_ran,
    read_alternatives as read_alternatives,
    read_plan as read_plan,
    read_published as read_published,
)
