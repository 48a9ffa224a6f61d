"""Kubeflow Pipelines from a shell: pipelines compiled, sent, scheduled and followed, and what keeps them from it."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
