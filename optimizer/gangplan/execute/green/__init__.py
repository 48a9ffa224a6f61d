"""Power and carbon: measured curves, the carbon of grids, caps on nodes, and the agent that holds them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
