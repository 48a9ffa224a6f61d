"""Which running gangs to preempt for one beneficiary."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
