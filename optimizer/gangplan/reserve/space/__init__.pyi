from .board import Board as Board
from .outage import (
    Mark as Mark,
    Marks as Marks,
    Span as Span,
    changed_by as changed_by,
    next_change as next_change,
    spans_of as spans_of,
)
from .packing import (
    Shape as Shape,
    Slot as Slot,
    Slots as Slots,
    ever_fits as ever_fits,
    place as place,
    width_of as width_of,
)
from .steps import check_calendar as check_calendar, steps_of as steps_of
