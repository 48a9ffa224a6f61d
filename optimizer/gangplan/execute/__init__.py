"""From a plan to changes: which nodes must start and stop; they can be shown before they are applied.

The fleet file is the only target; clusters and clouds will get modules of their own beside `fleet_file`.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
