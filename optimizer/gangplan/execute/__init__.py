"""Plans carried out: one pure function finds the steps, and engines take them, each safe, shown and kept."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
