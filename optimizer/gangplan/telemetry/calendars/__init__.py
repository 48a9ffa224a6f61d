"""Calendars: iCalendar files read event by event, so that a wrong one is kept out by itself."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
