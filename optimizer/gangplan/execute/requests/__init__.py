"""Kueue asks for nodes by ProvisioningRequests of our own class, and the plan answers with a time, then with nodes.

`answers` decides as a pure function, `answer_all` reads, decides and writes once; a controller repeats it.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
