"""When the world has changed: drift, spikes, and the correction of the next hours."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
