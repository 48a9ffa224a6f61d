"""The pipelines, and the part of one that holds a gang."""

from gangplan_kfp.pipelines.checks import check_gangs as check_gangs
from gangplan_kfp.pipelines.plan_and_apply import plan_and_apply as plan_and_apply
from gangplan_kfp.pipelines.reserved import on_gang as on_gang, reserved_gang as reserved_gang
from gangplan_kfp.pipelines.retraining import retrain_and_review as retrain_and_review
from gangplan_kfp.pipelines.secrets import all_with_secret as all_with_secret, with_secret as with_secret
from gangplan_kfp.pipelines.training import reserved_training as reserved_training
