"""Feedback: what really happened, held against the forecast and the plan, corrects the next forecast.

score       plan + forecast + outcome -> Score        pure
learn       Score -> Beliefs                          logged in MLflow, once for the same evidence
read_*      what was logged last
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
