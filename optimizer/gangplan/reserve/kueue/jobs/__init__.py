"""Jobs and pod groups that run on the slots of a reservation."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
