from .algebra import (
    Expression as Expression,
    Ints as Ints,
    Model as Model,
    PauseGC as PauseGC,
    StandardForm as StandardForm,
    compile_model as compile_model,
    constraint as constraint,
    minimize as minimize,
    new_model as new_model,
    variable as variable,
)
from .program import (
    build as build,
    build_master as build_master,
    build_recourse as build_recourse,
    define_risk as define_risk,
    risk_cost as risk_cost,
)
