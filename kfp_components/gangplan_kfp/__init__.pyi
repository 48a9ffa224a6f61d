from .components import (
    apply_plan as apply_plan,
    plan_capacity as plan_capacity,
    release_gang as release_gang,
    reserve_gang as reserve_gang,
    train_demand_model as train_demand_model,
    wait_for_gang as wait_for_gang,
)
from .pipelines import on_gang as on_gang, reserved_gang as reserved_gang
