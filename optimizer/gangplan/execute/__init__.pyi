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
from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .goals import Goal as Goal, goals as goals
from .node_steps import SETTLE as SETTLE
from .steps import steps as steps, steps_to as steps_to
from .target import Target as Target
