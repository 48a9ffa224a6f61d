"""MIG layouts: a node moves between pools of the same GPUs by another label, when it is empty."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
