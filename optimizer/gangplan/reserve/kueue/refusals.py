"""The calls of a ledger that Kueue has nothing for, and what to use instead: the one place that names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from gangplan.errors import UnsupportedError

REFUSED = {
    "resize": "a gang keeps its size while it is reserved: release it and submit another",
    "publish": "capacity is the ClusterQueues' quota: change that",
    "published": "no plan holds there, capacity is the ClusterQueues' quota",
    "mark_node": "use kubectl cordon or kubectl drain; nodes() reads them",
    "policy": "the rules are its ClusterQueues', Cohorts and WorkloadPriorityClasses: see kubectl get",
    "set_policy": "change its ClusterQueues, Cohorts and WorkloadPriorityClasses",
    "policies": "Kueue keeps no past of its rules: keep them in git",
    "audit": "Kueue keeps no log: switch the API server's audit log on",
    "replay": "Kueue keeps no log to replay: its Workloads are the state",
}
"""Each such call, and what to do instead."""


class Refusals:
    """Refuses each of these calls when it is made."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Return what refuses a call; only names that a class does not define itself come here."""
        if name not in REFUSED:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

        def refuse(*arguments: object, **options: object) -> NoReturn:
            raise UnsupportedError(f"{name}: a ledger on Kueue cannot do that: {REFUSED[name]}")

        return refuse
