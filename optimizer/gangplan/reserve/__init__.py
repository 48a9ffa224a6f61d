"""Reservations: whole gangs of GPU slots, promised now or for a window to come."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
