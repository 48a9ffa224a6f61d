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
from .green import (
    CapStep as CapStep,
    CapTarget as CapTarget,
    CarbonColumns as CarbonColumns,
    Measured as Measured,
    Nvml as Nvml,
    PowerAgent as PowerAgent,
    add_carbon as add_carbon,
    cap_steps as cap_steps,
    draw_curves as draw_curves,
    fit_curves as fit_curves,
    measured_from_csv as measured_from_csv,
    measured_from_mlflow as measured_from_mlflow,
    planned_caps as planned_caps,
    power_manifests as power_manifests,
    read_carbon as read_carbon,
    read_curves as read_curves,
    read_grids as read_grids,
    require_node as require_node,
    write_curves as write_curves,
    yearly_grids as yearly_grids,
)
from .node_steps import SETTLE as SETTLE
from .steps import steps as steps, steps_to as steps_to
from .target import Target as Target
