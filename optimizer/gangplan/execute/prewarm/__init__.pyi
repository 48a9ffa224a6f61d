from .carrying import Served as Served, keep_serving as keep_serving, take_back_serving as take_back_serving
from .minimums import minimums as minimums, undone as undone
from .settings import (
    Buffer as Buffer,
    Hpa as Hpa,
    Keda as Keda,
    KServe as KServe,
    Serving as Serving,
    Where as Where,
    check_serving as check_serving,
    read_serving as read_serving,
)
from .target import ServingTarget as ServingTarget, open_serving as open_serving
from .values import MinimumStep as MinimumStep, Replicas as Replicas
