"""The components: one file each. A component's body only calls the installed package: nothing else travels with it."""

from gangplan_kfp.components.applying import apply_plan as apply_plan
from gangplan_kfp.components.planning import plan_capacity as plan_capacity
from gangplan_kfp.components.releasing import release_gang as release_gang
from gangplan_kfp.components.reserving import reserve_gang as reserve_gang
from gangplan_kfp.components.training import train_demand_model as train_demand_model
from gangplan_kfp.components.waiting import wait_for_gang as wait_for_gang
