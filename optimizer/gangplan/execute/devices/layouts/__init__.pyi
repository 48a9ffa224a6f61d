from .moves import layout_steps as layout_steps
from .target import LayoutTarget as LayoutTarget
from .values import LayoutNode as LayoutNode, Layouts as Layouts, check_layouts as check_layouts
