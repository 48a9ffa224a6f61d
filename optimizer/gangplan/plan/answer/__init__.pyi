from .explanation import explain as explain
from .marginal import kept_limits as kept_limits
from .result import inputs_of as inputs_of, to_plan as to_plan
from .schedule import order_text as order_text, orders as orders, to_calendar as to_calendar
from .solution import (
    Binding as Binding,
    Solution as Solution,
    bent_limits as bent_limits,
    read_solution as read_solution,
)
