"""What the components share: settings, stages, reviews, a held gang, artifacts, the image."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
