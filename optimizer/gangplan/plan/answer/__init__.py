"""What a solution says: the plan, its prices, its limits, its orders, in words."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
