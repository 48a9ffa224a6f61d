"""Forecast: from telemetry to quantiles of GPU demand, by models that are back-tested, gated and reviewed in MLflow.

Names are imported when they are first asked for: a served model needs none of what trains and reviews.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
