"""What a ledger can be asked: the commands of those who reserve and of those who operate it."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
