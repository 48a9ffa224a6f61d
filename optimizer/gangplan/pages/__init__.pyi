from .colours import DARK as DARK, LIGHT as LIGHT, SERIES_ROLES as SERIES_ROLES
from .drawing import (
    OPACITY as OPACITY,
    Axes as Axes,
    Figure as Figure,
    band as band,
    gpus_over_time as gpus_over_time,
    line as line,
    new_axes as new_axes,
    steps as steps,
    style as style,
    time_axis as time_axis,
    times as times,
    to_png as to_png,
    to_svg as to_svg,
    to_svg_file as to_svg_file,
)
from .rendering import (
    NOTHING as NOTHING,
    duration as duration,
    factor as factor,
    moment as moment,
    number as number,
    second as second,
    share as share,
    templates as templates,
)
from .table import (
    Cells as Cells,
    Table as Table,
    figure as figure,
    table_of as table_of,
    text as text,
)
