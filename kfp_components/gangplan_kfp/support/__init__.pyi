from .artifacts import (
    apply_figures as apply_figures,
    log_metrics as log_metrics,
    of_applied as of_applied,
    of_plan as of_plan,
    of_taken as of_taken,
    of_training as of_training,
    plan_figures as plan_figures,
    training_figures as training_figures,
    write as write,
)
from .held import POD_NODE as POD_NODE, run_on_slots as run_on_slots
from .holding import give_back as give_back, request_from as request_from, take as take, wait_on as wait_on
from .lease import Gang as Gang, handover_of as handover_of, require_no_secret as require_no_secret
from .steps import (
    IMAGE as IMAGE,
    apply_plan as apply_plan,
    make_plan as make_plan,
    one_line_errors as one_line_errors,
    train as train,
)
