"""Kubeflow Pipelines from a shell: pipelines compiled, sent, scheduled and followed, and what keeps them from it."""

from gangplan.extras import lazy_face, needs_extras

with needs_extras():
    import kfp  # noqa: F401 - nothing in here works without it: the extra is named before anything else is missing

__getattr__, __dir__ = lazy_face(__name__, __file__)
