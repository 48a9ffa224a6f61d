from .agent import PowerAgent as PowerAgent, require_node as require_node
from .caps import CapStep as CapStep, CapTarget as CapTarget, cap_steps as cap_steps, planned_caps as planned_caps
from .carbon import (
    CarbonColumns as CarbonColumns,
    add_carbon as add_carbon,
    read_carbon as read_carbon,
    read_grids as read_grids,
    yearly_grids as yearly_grids,
)
from .curves import (
    Measured as Measured,
    fit_curves as fit_curves,
    read_curves as read_curves,
    write_curves as write_curves,
)
from .drawing import draw_curves as draw_curves
from .measured import measured_from_csv as measured_from_csv, measured_from_mlflow as measured_from_mlflow
from .nvml import Nvml as Nvml
from .objects import power_manifests as power_manifests
from .settings import PowerSettings as PowerSettings
