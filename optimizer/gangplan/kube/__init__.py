"""A Kubernetes cluster as gangplan talks to it: plain objects, and watched mirrors of them."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
