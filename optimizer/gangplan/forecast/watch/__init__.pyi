from .health import DriftVerdict as DriftVerdict, Health as Health, watch_drift as watch_drift
from .nowcast import (
    Alarm as Alarm,
    correct_next_hours as correct_next_hours,
    forecast_past_alarms as forecast_past_alarms,
)
