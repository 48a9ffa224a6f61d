"""Tables of others -> gangplan's tables, by mapping files: those of known traces ship with gangplan."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
