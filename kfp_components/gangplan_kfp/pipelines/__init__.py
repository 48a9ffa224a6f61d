"""The pipelines, and the part of one that holds a gang."""

from gangplan_kfp.pipelines.reserved import on_gang as on_gang, reserved_gang as reserved_gang
from gangplan_kfp.pipelines.training import reserved_training as reserved_training
