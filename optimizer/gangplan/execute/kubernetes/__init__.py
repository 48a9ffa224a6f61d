"""A Kubernetes cluster as a target: Kueue's quotas, nodes by Karpenter and by anything with a `/scale`."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
