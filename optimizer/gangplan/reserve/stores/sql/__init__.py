"""The rows of a ledger in SQLite or PostgreSQL, with one leader that writes them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
