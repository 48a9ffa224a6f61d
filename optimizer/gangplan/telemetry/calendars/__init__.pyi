from .events import Event as Event
from .reader import Calendar as Calendar, read_calendar as read_calendar
from .recurrence import Window as Window
from .rules import MOST as MOST
