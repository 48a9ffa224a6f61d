"""The commands that carry plans out: apply, controller, power, prices, and what they show."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
