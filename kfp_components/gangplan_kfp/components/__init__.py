"""The components: one file each. A component's body only calls the installed package: nothing else travels with it."""

from gangplan_kfp.components.applying import apply_plan as apply_plan
from gangplan_kfp.components.approving import approve_plan as approve_plan
from gangplan_kfp.components.evaluating import evaluate_challenger as evaluate_challenger
from gangplan_kfp.components.ingesting import ingest_telemetry as ingest_telemetry
from gangplan_kfp.components.learning import record_feedback as record_feedback
from gangplan_kfp.components.planning import plan_capacity as plan_capacity
from gangplan_kfp.components.promoting import promote_model as promote_model
from gangplan_kfp.components.releasing import release_gang as release_gang
from gangplan_kfp.components.reserving import reserve_gang as reserve_gang
from gangplan_kfp.components.reviewing import review_gate as review_gate
from gangplan_kfp.components.running import run_on_gang as run_on_gang
from gangplan_kfp.components.training import train_demand_model as train_demand_model
from gangplan_kfp.components.waiting import wait_for_gang as wait_for_gang
