from .arrays import (
    DAY as DAY,
    MEDIAN as MEDIAN,
    WEEK as WEEK,
    Bools as Bools,
    Floats as Floats,
    Ints as Ints,
    Key as Key,
    carried_forward as carried_forward,
    known_mean as known_mean,
    normal_scores as normal_scores,
    ratio as ratio,
    tidy as tidy,
    widen as widen,
)
from .cleaning import Shift as Shift, at_new_levels as at_new_levels, cleaned as cleaned, shifts_of as shifts_of
from .panel import (
    Jobs as Jobs,
    Panel as Panel,
    SeriesStatus as SeriesStatus,
    from_tables as from_tables,
    from_usage as from_usage,
    learnable_rows as learnable_rows,
    status_of_series as status_of_series,
)
