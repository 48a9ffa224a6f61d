"""A cluster's objects as the small values that an executor needs: there are tens of thousands of them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
