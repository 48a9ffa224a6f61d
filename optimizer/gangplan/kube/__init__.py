"""Access to a Kubernetes cluster: calls, watched copies of its objects, what it has and runs."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
