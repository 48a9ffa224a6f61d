from .claims import (
    ClaimedGang as ClaimedGang,
    give_back_claims as give_back_claims,
    held_claims as held_claims,
    hold_claims as hold_claims,
)
from .layouts import (
    Layouts as Layouts,
    LayoutTarget as LayoutTarget,
    check_layouts as check_layouts,
    layout_steps as layout_steps,
)
from .resizing import (
    Container as Container,
    Resize as Resize,
    ResizeRule as ResizeRule,
    ResizeRules as ResizeRules,
    RunningPod as RunningPod,
    resize_all as resize_all,
    resizes as resizes,
)
