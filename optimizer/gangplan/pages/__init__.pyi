from .colours import DARK as DARK, LIGHT as LIGHT, SERIES_ROLES as SERIES_ROLES
from .drawing import (
    gpus_over_time as gpus_over_time,
    new_axes as new_axes,
    style as style,
    time_axis as time_axis,
    times as times,
    to_svg as to_svg,
)
from .environment import templates as templates
from .table import Column as Column, Table as Table, figure as figure, text as text
from .words import (
    NOTHING as NOTHING,
    duration as duration,
    factor as factor,
    moment as moment,
    number as number,
    second as second,
    share as share,
)
