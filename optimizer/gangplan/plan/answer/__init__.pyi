from .calendar import to_calendar as to_calendar
from .limits import Binding as Binding, bent_limits as bent_limits
from .marginal import kept_limits as kept_limits
from .ordering import Order as Order, order_text as order_text, orders as orders
from .result import inputs_of as inputs_of, to_plan as to_plan
from .solution import Solution as Solution, read_solution as read_solution
from .words import explain as explain
