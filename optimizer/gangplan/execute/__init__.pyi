from .controller import (
    LAST_PASS as LAST_PASS,
    AirflowRuns as AirflowRuns,
    ClusterLead as ClusterLead,
    Family as Family,
    FileLead as FileLead,
    Health as Health,
    Lead as Lead,
    Lives as Lives,
    Metrics as Metrics,
    Round as Round,
    Run as Run,
    log_as_json as log_as_json,
)
from .devices import (
    ClaimedGang as ClaimedGang,
    Layouts as Layouts,
    LayoutTarget as LayoutTarget,
    Resize as Resize,
    ResizeRule as ResizeRule,
    ResizeRules as ResizeRules,
    give_back_claims as give_back_claims,
    hold_claims as hold_claims,
    layout_steps as layout_steps,
    resize_all as resize_all,
)
from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .goals import Goal as Goal, goals as goals
from .node_steps import SETTLE as SETTLE
from .requests import answer_all as answer_all, queue_check as queue_check
from .steps import steps as steps, steps_to as steps_to
from .target import Target as Target
