from .growth import Full as Full, Trend as Trend, foresee_growth as foresee_growth, when_full as when_full
from .growth_plot import draw as draw
from .minutes_runs import Asked as Asked, MinuteForecast as MinuteForecast, foresee_minutes as foresee_minutes
from .totals import sum_up as sum_up
