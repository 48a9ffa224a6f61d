from .components import (
    apply_plan as apply_plan,
    approve_plan as approve_plan,
    evaluate_challenger as evaluate_challenger,
    ingest_telemetry as ingest_telemetry,
    plan_capacity as plan_capacity,
    promote_model as promote_model,
    record_feedback as record_feedback,
    release_gang as release_gang,
    reserve_gang as reserve_gang,
    review_gate as review_gate,
    train_demand_model as train_demand_model,
    wait_for_gang as wait_for_gang,
)
from .pipelines import (
    all_with_secret as all_with_secret,
    on_gang as on_gang,
    plan_and_apply as plan_and_apply,
    reserved_gang as reserved_gang,
    reserved_training as reserved_training,
    retrain_and_review as retrain_and_review,
    with_secret as with_secret,
)
