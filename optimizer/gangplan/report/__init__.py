"""The report: one self-contained HTML page of the demand, the plan, the reservations and what was learned."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
