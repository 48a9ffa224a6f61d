from .carrying import (
    Carried as Carried,
    Carrying as Carrying,
    Outcome as Outcome,
    Taken as Taken,
    until_reached as until_reached,
)
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
from .engines import Engine as Engine, Seen as Seen, look as look
from .fleet_file import FileNodes as FileNodes, FleetFileTarget as FleetFileTarget
from .goals import Goal as Goal, goals as goals
from .journal import (
    ApplyRun as ApplyRun,
    Journal as Journal,
    PoolBefore as PoolBefore,
    carried_hours as carried_hours,
    last_run as last_run,
)
from .node_steps import SETTLE as SETTLE
from .opening import Opening as Opening, close_engines as close_engines, open_engines as open_engines
from .prewarm import Serving as Serving, ServingTarget as ServingTarget
from .steps import steps as steps, steps_to as steps_to
from .target import Target as Target
from .targets_file import Targets as Targets, read_targets as read_targets, targets_of_file as targets_of_file
