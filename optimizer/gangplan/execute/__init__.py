"""Plan in, changes out: what must start and stop for the fleet to be as planned; shown first, applied second.

The fleet file is the one target here; clusters and clouds get modules of their own beside `fleet_file`.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
