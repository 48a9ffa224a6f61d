from .decide import resizes as resizes
from .pods import read_pods as read_pods, resize_all as resize_all
from .values import (
    Container as Container,
    Resize as Resize,
    ResizeRule as ResizeRule,
    ResizeRules as ResizeRules,
    RunningPod as RunningPod,
)
