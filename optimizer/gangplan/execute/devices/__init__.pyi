from .layouts import (
    LayoutNode as LayoutNode,
    Layouts as Layouts,
    LayoutTarget as LayoutTarget,
    layout_steps as layout_steps,
)
from .resizing import (
    Container as Container,
    Resize as Resize,
    ResizeRule as ResizeRule,
    ResizeRules as ResizeRules,
    RunningPod as RunningPod,
    read_pods as read_pods,
    resize_all as resize_all,
    resizes as resizes,
)
