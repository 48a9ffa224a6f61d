"""Forecast and fleet in, plan out: the cheapest fleet that serves the demand, explained.

Names are imported when they are first asked for: who lists plans needs neither Pyomo nor HiGHS.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
