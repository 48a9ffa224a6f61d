"""Where the rows of a ledger are kept: in memory or in a SQL database."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
