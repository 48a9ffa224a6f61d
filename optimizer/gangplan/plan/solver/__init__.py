"""The search for the cheapest fleet: decomposition, bounds, rounding."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
