"""Groups of machines of a cloud as targets, each machine removed by its name, and the prices of clouds."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
