"""gangplan's components for Kubeflow Pipelines: reserve a gang of GPU slots before a step, release it after.

A component's body only calls the installed package, since nothing but the body travels in the compiled pipeline.
"""

from gangplan.extras import needs_extras

with needs_extras():
    from kfp import dsl

if hasattr(dsl, "component"):  # inside a running step KFP leaves its compiler out, and the components with it
    from gangplan_kfp.components import (
        apply_plan,
        approve_plan,
        evaluate_challenger,
        ingest_telemetry,
        plan_capacity,
        promote_model,
        record_feedback,
        release_gang,
        reserve_gang,
        review_gate,
        train_demand_model,
    )
    from gangplan_kfp.pipelines import (
        all_with_secret,
        plan_and_apply,
        reserved_gang,
        reserved_training,
        retrain_and_review,
        with_secret,
    )

__all__ = [
    "reserve_gang",
    "release_gang",
    "reserved_gang",
    "ingest_telemetry",
    "train_demand_model",
    "evaluate_challenger",
    "review_gate",
    "promote_model",
    "plan_capacity",
    "approve_plan",
    "apply_plan",
    "record_feedback",
    "reserved_training",
    "retrain_and_review",
    "plan_and_apply",
    "with_secret",
    "all_with_secret",
]
