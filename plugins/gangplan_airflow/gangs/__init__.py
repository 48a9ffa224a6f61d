"""A gang in one line of a DAG: reserved, held while its work runs there, released.

with gang("big", tenant="vision", accelerators=["h100"], pods=2, gpus_per_pod=4, duration="2h") as slots: ...
@task.gang(tenant="vision", accelerators=["h100"], pods=2, gpus_per_pod=4, duration="10m")
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
