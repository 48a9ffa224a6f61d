"""What the DAGs that ship with gangplan stand on: their bundle, their settings, their alerts."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
