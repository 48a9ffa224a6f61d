"""What a plan is asked: periods, scenarios, supply, quotas, prices and the policy."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
