"""How files of telemetry are read, and which rules their rows must keep."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
