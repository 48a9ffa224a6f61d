from .telemetry import make_sample as make_sample
