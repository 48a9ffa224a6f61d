from .minimums import minimums as minimums, minimums_before as minimums_before
from .settings import (
    Buffer as Buffer,
    Hpa as Hpa,
    Keda as Keda,
    KServe as KServe,
    Serving as Serving,
    Where as Where,
    check_serving as check_serving,
)
from .target import ServingTarget as ServingTarget
from .values import Replicas as Replicas
