"""gangplan's components for Kubeflow Pipelines: reserve a gang of GPU slots before a step, release it after.

A component's body only calls the installed package, since nothing but the body travels in the compiled pipeline.
"""

from gangplan.extras import needs_extras

with needs_extras():
    from kfp import dsl

if hasattr(dsl, "component"):  # inside a running step KFP leaves its compiler out, and the components with it
    from gangplan_kfp.components import (
        apply_plan,
        plan_capacity,
        release_gang,
        reserve_gang,
        run_on_gang,
        train_demand_model,
    )
    from gangplan_kfp.pipelines import reserved_gang

__all__ = [
    "run_on_gang",
    "reserve_gang",
    "release_gang",
    "reserved_gang",
    "train_demand_model",
    "plan_capacity",
    "apply_plan",
]
