"""What the components share: settings, stages, a held gang, artifacts, the image."""

from gangplan_kfp.support.artifacts import (
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
from gangplan_kfp.support.holding import give_back as give_back, request_from as request_from, take as take
from gangplan_kfp.support.jobs import run_job as run_job
from gangplan_kfp.support.steps import (
    IMAGE as IMAGE,
    apply_plan as apply_plan,
    make_plan as make_plan,
    one_line_errors as one_line_errors,
    train as train,
)
