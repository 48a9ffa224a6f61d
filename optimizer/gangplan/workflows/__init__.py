"""Work that needs several stages, joined once for DAGs, components and commands."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
