"""Prometheus as a source: what pods asked for, by kube-state-metrics, and what GPUs did, by the DCGM exporter."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
