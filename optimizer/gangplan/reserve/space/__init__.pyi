from .board import Board as Board
from .outage import Outage as Outage
from .packing import (
    Shape as Shape,
    Slot as Slot,
    Slots as Slots,
    ever_fits as ever_fits,
    place as place,
    width_of as width_of,
)
from .steps import check_calendar as check_calendar, steps_of as steps_of
