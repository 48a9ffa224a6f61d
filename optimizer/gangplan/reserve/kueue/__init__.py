"""The ledger on Kueue: a reservation is a Workload without an owner, which Kueue admits and a Job may adopt."""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
