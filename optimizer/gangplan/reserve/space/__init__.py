"""Who holds what when: the slots of each node over time, and where a gang fits."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
