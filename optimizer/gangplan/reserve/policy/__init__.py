"""Who may have what: tenants, cohorts, quotas, priority classes, from the policy file."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
