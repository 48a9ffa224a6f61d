from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .goals import Goal as Goal, goals as goals
from .node_steps import SETTLE as SETTLE
from .steps import steps as steps, steps_to as steps_to
from .target import Target as Target
