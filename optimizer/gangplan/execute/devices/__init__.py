"""Devices of nodes and requests of pods: MIG layouts by label, CPU and memory of running pods, gangs by ResourceClaims.

Each has a pure function that decides and a small one that reads, decides and writes once.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
