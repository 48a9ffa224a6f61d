"""Admission: which waiting gangs start now, where, and when the others are expected to."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
