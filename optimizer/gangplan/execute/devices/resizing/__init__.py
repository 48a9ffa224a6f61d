"""CPU and memory of running pods: requests that are far above what was used are lowered in place, and given back."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
