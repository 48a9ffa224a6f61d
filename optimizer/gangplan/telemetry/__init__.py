"""Telemetry: sources -> Usage. Imports are kept in MLflow, and all later stages read them from there."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
