"""Feedback: compares forecast and plan with what happened, and corrects the next forecast.

score       plan + forecast + outcome -> Score        pure
learn       Score -> Beliefs                          logged in MLflow, once for the same score
read_*      what was logged last
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
