from .artifacts import (
    apply_figures as apply_figures,
    ingest_figures as ingest_figures,
    learning_figures as learning_figures,
    log_metrics as log_metrics,
    of_applied as of_applied,
    of_ingest as of_ingest,
    of_learning as of_learning,
    of_plan as of_plan,
    of_taken as of_taken,
    of_training as of_training,
    plan_figures as plan_figures,
    point_at_model as point_at_model,
    training_figures as training_figures,
    write as write,
)
from .held import POD_NODE as POD_NODE, run_on_slots as run_on_slots
from .holding import give_back as give_back, request_from as request_from, take as take, wait_on as wait_on
from .jobs import run_job as run_job
from .lease import Gang as Gang, handover_of as handover_of, require_no_secret as require_no_secret
from .reviewing import (
    Patience as Patience,
    evaluate as evaluate,
    of_decided as of_decided,
    review_model as review_model,
    review_plan as review_plan,
)
from .stages import (
    apply_plan as apply_plan,
    ingest as ingest,
    learn as learn,
    make_plan as make_plan,
    promote as promote,
    train as train,
)
from .steps import (
    IMAGE as IMAGE,
    one_line_errors as one_line_errors,
    refuse_secrets as refuse_secrets,
)
