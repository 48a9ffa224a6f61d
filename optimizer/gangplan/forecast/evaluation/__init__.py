"""How good a model is: back-tests, loss, the gate, and the plots of them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
