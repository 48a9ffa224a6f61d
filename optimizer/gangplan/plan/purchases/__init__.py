"""Months ahead: what to buy for which term, from typical weeks and growth; stated with the plan's own service rules."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
