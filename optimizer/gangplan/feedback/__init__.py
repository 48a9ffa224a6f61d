"""Feedback: compares forecast and plan with what happened, and corrects the next forecast."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
