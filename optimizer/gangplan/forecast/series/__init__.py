"""What the models learn from: demand by hour, cleaned, with its level shifts."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
