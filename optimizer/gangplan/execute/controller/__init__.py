"""The controller's process: who leads, what is done again and again, and what it says of itself.

It knows no ledger and no store of plans: what a round does is given to it.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
