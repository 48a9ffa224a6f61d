"""What Kueue asks for, and what the plan answers, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Said(StrEnum):
    """An answer to a request for nodes; the words are the reasons of its condition."""

    THERE = "NodesAreThere"  # it may start: Kueue admits it
    PLANNED = "Planned"  # the plan brings them later
    LATE = "Late"  # the plan has them by now, the engine does not yet
    NOT_PLANNED = "NotPlanned"  # the plan never brings them
    FAILED = "NotPlannedInTime"  # the plan never brings them, and the setting says to give up
    STALE = "Stale"  # it was answered for a quota reservation that is over: the request is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsAsked:
    """Equal pods of a request: how many, the slots of each, and the pool that their flavor names (empty: none)."""

    pods: int
    slots: int
    pool: str

    @property
    def total(self) -> int:
        """Their slots together."""
        return self.pods * self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """A ProvisioningRequest of our class, with what is to be known of its Workload.

    `reserved` and `admitted` are of the Workload: Kueue counts its quota; it may run. `limit` is how long it may run at
    most (None: nobody knows). `can_fail`: somebody ends its eviction, so that it gives its quota back. `said` is our
    last answer, None before the first.
    """

    namespace: str
    name: str
    version: str
    workload: str
    created: datetime
    pods: tuple[PodsAsked, ...]
    priority: int = 0
    reserved: bool = True
    admitted: bool = False
    limit: timedelta | None = None
    can_fail: bool = True
    said: Said | None = None
    message: str = ""

    @property
    def key(self) -> str:
        """Its name with its namespace."""
        return f"{self.namespace}/{self.name}"

    @property
    def slots(self) -> dict[str, int]:
        """Its slots by pool."""
        return {pool: sum(one.total for one in self.pods if one.pool == pool) for pool in {p.pool for p in self.pods}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said to a request, in a sentence; `at` is the time from which the plan has its nodes."""

    request: NodeRequest
    said: Said
    message: str
    at: datetime | None = None

    @property
    def new(self) -> bool:
        """Whether it says something else than what stands on the request."""
        return (self.said, self.message) != (self.request.said, self.request.message)
