from .health import DriftVerdict as DriftVerdict, Health as Health, watch_drift as watch_drift
from .nowcast import Alarm as Alarm, correct_next_hours as correct_next_hours, foresee as foresee
