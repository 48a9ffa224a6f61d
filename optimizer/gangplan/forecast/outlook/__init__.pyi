from .growth import (
    CapacityDate as CapacityDate,
    Trend as Trend,
    draw_growth as draw_growth,
    forecast_growth as forecast_growth,
    when_full as when_full,
)
from .minutes_runs import (
    MinuteRequest as MinuteRequest,
    forecast_minutes as forecast_minutes,
)
from .totals import sum_up as sum_up
