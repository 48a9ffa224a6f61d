from .layouts import (
    LayoutNode as LayoutNode,
    Layouts as Layouts,
    LayoutTarget as LayoutTarget,
    layout_steps as layout_steps,
)
