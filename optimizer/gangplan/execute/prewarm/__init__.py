"""Serving ahead of demand: the replicas, and the room for them, that the plan keeps for work bound by latency."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
