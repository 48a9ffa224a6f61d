from .first_stage import Model as Model
from .program import (
    build as build,
    build_master as build_master,
    build_recourse as build_recourse,
    define_risk as define_risk,
    risk_cost as risk_cost,
)
