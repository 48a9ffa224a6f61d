from .devices import (
    Layouts as Layouts,
    LayoutTarget as LayoutTarget,
    Resize as Resize,
    ResizeRule as ResizeRule,
    ResizeRules as ResizeRules,
    layout_steps as layout_steps,
    resize_all as resize_all,
)
from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .requests import answer_all as answer_all, queue_check as queue_check, request_rights as request_rights
from .target import Target as Target
