"""The calls of a ledger that Kueue has nothing for: each is refused with what to use instead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NoReturn

from gangplan.errors import UnsupportedError
from gangplan.reserve.audit import AuditEvent, Replay
from gangplan.reserve.contract import PolicyChange
from gangplan.reserve.policy import Policy
from gangplan.types import CapacityCalendar, NodeState, Reservation, ReservationId, Token

REFUSED = {
    "resize": "a gang keeps its size while it is reserved: release it and submit another",
    "publish": "capacity is the ClusterQueues' quota: change that",
    "mark_node": "use kubectl cordon or kubectl drain; nodes() reads them",
    "policy": "the rules are its ClusterQueues', Cohorts and WorkloadPriorityClasses: see kubectl get",
    "set_policy": "change its ClusterQueues, Cohorts and WorkloadPriorityClasses",
    "policies": "Kueue keeps no past of its rules: keep them in git",
    "audit": "Kueue keeps no log: switch the API server's audit log on",
    "replay": "Kueue keeps no log to replay: its Workloads are the state",
}
"""Each such call, and the remedy."""


class Refusals:
    """What a ledger on Kueue refuses."""

    def resize(self, id: ReservationId, token: Token, pods: tuple[int, ...]) -> Reservation:
        """Refused: a Workload's pod sets are frozen while its quota is reserved."""
        _refuse("resize")

    def publish(self, calendar: CapacityCalendar, *, keep: bool = False) -> None:
        """Refused: capacity is what the ClusterQueues say."""
        _refuse("publish")

    def mark_node(self, node: str, state: NodeState, *, why: str = "") -> None:
        """Refused: nodes are the cluster's."""
        _refuse("mark_node")

    def policy(self) -> Policy:
        """Refused: the rules are the ClusterQueues'."""
        _refuse("policy")

    def set_policy(self, policy: Policy, *, by: str, why: str) -> None:
        """Refused: the rules are the ClusterQueues'."""
        _refuse("set_policy")

    def policies(self) -> tuple[PolicyChange, ...]:
        """Refused: Kueue keeps no past of its rules."""
        _refuse("policies")

    def audit(self, since: datetime | None = None, id: ReservationId | None = None) -> Iterator[AuditEvent]:
        """Refused: Kueue keeps no log."""
        _refuse("audit")

    def replay(self) -> Replay:
        """Refused: Kueue keeps no log."""
        _refuse("replay")


def _refuse(what: str) -> NoReturn:
    raise UnsupportedError(f"{what}: a ledger on Kueue cannot do that: {REFUSED[what]}")
