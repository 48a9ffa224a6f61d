"""The sample: an invented cluster with its jobs and metrics."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
