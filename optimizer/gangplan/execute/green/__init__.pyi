from .agent import (
    CAP_LABEL as CAP_LABEL,
    CLOCK_LABEL as CLOCK_LABEL,
    EVERY_S as EVERY_S,
    Agent as Agent,
    require_readable as require_readable,
)
from .caps import (
    Cap as Cap,
    CappedNode as CappedNode,
    CapStep as CapStep,
    CapTarget as CapTarget,
    Held as Held,
    cap_steps as cap_steps,
    planned_caps as planned_caps,
    wanted_cap as wanted_cap,
)
from .carbon import (
    OURS as OURS,
    UNITS as UNITS,
    CarbonColumns as CarbonColumns,
    Series as Series,
    Yearly as Yearly,
    add_series as add_series,
    grid_of as grid_of,
    grids as grids,
    read_series as read_series,
    yearly as yearly,
)
from .curves import Measured as Measured, fit as fit, read_curves as read_curves, write_curves as write_curves
from .drawing import draw_curves as draw_curves
from .measured import from_csv as from_csv, from_mlflow as from_mlflow
from .nvml import Gpu as Gpu, Nvml as Nvml
from .objects import power_manifests as power_manifests
