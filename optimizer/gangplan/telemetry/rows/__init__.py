"""What a row of telemetry must be, and how files of rows are read."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
