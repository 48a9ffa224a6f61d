from .all_steps import steps as steps, steps_to as steps_to
from .carrying import (
    Carried as Carried,
    Carrying as Carrying,
    Outcome as Outcome,
    Taken as Taken,
    until_reached as until_reached,
)
from .cloud import (
    PriceChange as PriceChange,
    bought_pools as bought_pools,
    catalog_changes as catalog_changes,
    changed_prices as changed_prices,
    machines_of as machines_of,
    read_skypilot as read_skypilot,
    repriced as repriced,
    spot_changes as spot_changes,
)
from .controller import (
    LAST_PASS as LAST_PASS,
    PASS_FIGURES as PASS_FIGURES,
    AirflowRuns as AirflowRuns,
    ClusterLead as ClusterLead,
    Family as Family,
    FileLead as FileLead,
    Health as Health,
    Lead as Lead,
    LedTarget as LedTarget,
    Lives as Lives,
    Metrics as Metrics,
    Round as Round,
    Run as Run,
    Teller as Teller,
    leases as leases,
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
from .engines import Engine as Engine, Seen as Seen, look as look
from .fleet_file import FileNodes as FileNodes, FleetFileTarget as FleetFileTarget
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
from .journal import (
    ApplyRun as ApplyRun,
    Journal as Journal,
    PoolBefore as PoolBefore,
    carried_hours as carried_hours,
    last_run as last_run,
)
from .kubernetes import (
    ClusterTarget as ClusterTarget,
    FixedNodes as FixedNodes,
    KarpenterNodes as KarpenterNodes,
    KueueQuota as KueueQuota,
    ScaledNodes as ScaledNodes,
    layout_of as layout_of,
    open_cluster as open_cluster,
)
from .opening import Opening as Opening, close_engines as close_engines, open_engines as open_engines
from .pool_state import SETTLE as SETTLE
from .prewarm import Serving as Serving, ServingTarget as ServingTarget
from .requests import answer_all as answer_all, queue_check as queue_check
from .target import Target as Target
from .targets_file import Targets as Targets, read_targets as read_targets, targets_of_file as targets_of_file
from .wanted import Goal as Goal, goals as goals
