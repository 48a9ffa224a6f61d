"""A reservation: its state, its slots, its lease, and why it waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from gangplan.types.checks import require_text
from gangplan.types.gang import GangRequest

ReservationId = NewType("ReservationId", str)


Token = NewType("Token", int)
"""A fencing token: grows with every grant and every takeover, never repeats."""


def owner_of(attempt: str) -> str:
    """Return the owner of an attempt: all of its path but the last part, which is the try."""
    return attempt.rpartition("/")[0]


def is_owned(attempt: str, prefix: str) -> bool:
    """Tell whether an attempt belongs to an owner, or to one of those below it; an empty prefix is any owner's."""
    return not prefix or attempt.startswith(f"{prefix}/")


def require_attempt(attempt: str) -> None:
    """Refuse what cannot be the text of an attempt."""
    require_text("attempt", attempt, most=2000)


class ReservationState(StrEnum):
    """Where a reservation stands."""

    WAITING = "waiting"
    GRANTED = "granted"
    INTERRUPTED = "interrupted"  # its nodes went away: it waits, ahead of all others, for slots in their place
    RELEASED = "released"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PREEMPTED = "preempted"  # its slots were taken for another gang, after notice

    @property
    def final(self) -> bool:
        """Whether nothing can change this state any more."""
        return self not in _LIVE_STATES

    @property
    def waits(self) -> bool:
        """Whether it waits for slots."""
        return self in (ReservationState.WAITING, ReservationState.INTERRUPTED)


_LIVE_STATES = (ReservationState.WAITING, ReservationState.GRANTED, ReservationState.INTERRUPTED)


class NodeState(StrEnum):
    """Whether a node may carry gangs."""

    READY = "ready"
    DRAINING = "draining"  # takes no gang; those on it have until their drain deadline
    LOST = "lost"  # gone, and what ran on it


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A node that takes no gang: its state from `begin` (None: since it was marked), and when it is expected back."""

    state: NodeState
    begin: datetime | None = None
    back: datetime | None = None
    why: str = ""


class Limit(StrEnum):
    """Which limit holds a waiting request."""

    QUOTA = "quota"  # its tenant, or its cohort, has used up what it may hold
    CAPACITY = "capacity"  # the slots exist, others hold them
    CALENDAR = "calendar"  # the plan has no such capacity in the time asked for
    TOPOLOGY = "topology"  # enough slots, but not together
    WINDOW = "window"  # its earliest start is still to come
    ORDER = "order"  # it would fit, but would delay one ahead of it


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Pods of one pod set (by its place in the request) on one node, and the GPUs of those pods together."""

    pool: str
    node: str
    pods: int
    gpus: int
    pod_set: int = 0


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a request waits: the limit, in fields and in words."""

    limit: Limit
    message: str
    holders: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What a holder is told before it loses its slots: by when to be gone, why, and for whom.

    A holder that can, saves a checkpoint and releases; at `until` the slots are taken. When whoever they were meant for
    leaves first, the notice goes away again.
    """

    until: datetime
    why: str
    beneficiary: str = ""  # request key of the gang that gets the slots


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A request and what became of it.

    While it waits, `eta` is the promised start, or where it stands too far back for a promise the estimated one;
    `eta_range` says from when to when the start is expected. `attempt` says who asked last, as a path of
    percent-encoded parts of which the last is the try; an empty one names nobody.
    """

    id: ReservationId
    request: GangRequest
    state: ReservationState
    submitted_at: datetime
    token: Token | None = None
    placements: tuple[Placement, ...] = ()
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    first_eta: datetime | None = None  # the ETA that was promised first, to measure its error by
    eta: datetime | None = None
    eta_range: tuple[datetime, datetime] | None = None
    promised: bool = False  # the ETA stands on exact slots
    reason: Reason | None = None
    notice: Notice | None = None  # it holds slots, and will lose them
    interruptions: int = 0  # so often its nodes went away
    attempt: str = ""
    claim_by: datetime | None = None  # granted: nobody has claimed it yet, and must by then; expired: nobody did

    @property
    def owner(self) -> str:
        """Whose attempt it is; an empty text if that is not known."""
        return owner_of(self.attempt)

    @property
    def waited(self) -> timedelta | None:
        """How long it waited for its grant; none when it was never granted."""
        return None if self.granted_at is None else self.granted_at - self.submitted_at


@dataclass(frozen=True, kw_only=True)
class FreeCapacity:
    """A pool's slots over one stretch of time: planned, held or promised, and free GPUs."""

    pool: str
    start: datetime
    end: datetime
    planned_gpus: int
    held_gpus: int

    @property
    def free_gpus(self) -> int:
        """GPUs that a new request could get, topology aside."""
        return max(0, self.planned_gpus - self.held_gpus)
