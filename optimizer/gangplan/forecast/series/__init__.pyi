from .arrays import Floats as Floats, Ints as Ints, Key as Key, tidy as tidy
from .cleaning import cleaned as cleaned
from .jobs import Jobs as Jobs
from .panel import HOUR as HOUR, Panel as Panel, from_tables as from_tables, from_usage as from_usage
from .shifts import Shift as Shift, anchored as anchored, shifts_of as shifts_of
from .standing import Standing as Standing, standings as standings
