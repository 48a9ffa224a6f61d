"""Plans carried out: once by a command, or for good by a controller, which also gives back what ended owners left."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
