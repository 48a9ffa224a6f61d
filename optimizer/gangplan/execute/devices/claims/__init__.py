"""Gangs held by ResourceClaims (DRA): the scheduler alone gives devices out, and keeper pods hold on to them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
