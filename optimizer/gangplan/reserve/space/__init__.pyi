from .board import Board as Board, Steps as Steps
from .free import free_capacity as free_capacity
from .packing import (
    Shape as Shape,
    Slot as Slot,
    Slots as Slots,
    ever_fits as ever_fits,
    place as place,
    width_of as width_of,
)
