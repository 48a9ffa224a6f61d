"""Model versions in the MLflow registry: recorded, read and changed."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
