from .airflow_runs import AirflowRuns as AirflowRuns, Run as Run
from .health import Health as Health
from .lease import (
    LAST_PASS as LAST_PASS,
    ClusterLead as ClusterLead,
    FileLead as FileLead,
    Lead as Lead,
    is_locked as is_locked,
    leases as leases,
)
from .led import LedTarget as LedTarget
from .lives import Lives as Lives
from .logs import log_as_json as log_as_json
from .metrics import Family as Family, Metrics as Metrics
from .rounds import Round as Round
from .telling import PASS_FIGURES as PASS_FIGURES, Teller as Teller
