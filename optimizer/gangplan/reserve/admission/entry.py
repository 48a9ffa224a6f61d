"""One reservation as the ledger works on it, with times in whole microseconds; `Reservation` is its frozen picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

from gangplan.clock import from_us, or_none_at, or_none_us, span_us, to_us
from gangplan.reserve.space import Shape, Slots
from gangplan.types import (
    GangRequest,
    Level,
    Notice,
    Placement,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
)

Rank: TypeAlias = tuple[int, float, int]
"""Place in the line, the lowest first: priority with age, dominant share over weight, arrival."""

BORROWS = 2**61
"""Added to the points of who starts by borrowing, where owners go first: behind all who do not."""


def borrows(rank: Rank) -> bool:
    """Tell whether a rank is one of those who borrow."""
    return rank[0] > BORROWS >> 2


@dataclass(frozen=True, slots=True)
class Promise:
    """A promised start: where and when, and whether it is an accepted window, which nobody displaces."""

    pool: str
    slots: Slots
    start: int
    end: int
    firm: bool = False
    rank: Rank | None = None  # the place in the line that it was made at, and is kept at


@dataclass(frozen=True, slots=True)
class Leave:
    """Notice to a holder that its slots go at `until`; the lease's former ends come back if it is withdrawn."""

    until: int
    why: str
    state: ReservationState  # what the holder is then
    beneficiary: str  # request key, or nothing
    expires: int
    hard_end: int
    since: int = 0  # when the holder is to be told; 0: it was


Snapshot: TypeAlias = tuple[Any, ...]
"""The fields of an entry that may change, at one time; to be restored, not to be read."""

_CHANGING = (
    *("state", "token", "pool", "slots", "granted", "hard_end", "expires", "ended", "first_eta"),
    *("promise", "leave", "moves", "retry", "points", "claim_by"),
)
_CHANGING_OF = attrgetter(*_CHANGING)


@dataclass(slots=True, eq=False)
class Entry:
    """A request and what became of it, as a book keeps it."""

    id: ReservationId
    request: GangRequest
    body: str
    arrival: int
    submitted: int
    state: ReservationState = ReservationState.WAITING
    token: Token | None = None
    pool: str | None = None
    slots: Slots = ()
    granted: int | None = None
    hard_end: int | None = None  # no renewal can pass it; promises to others rely on it
    expires: int | None = None
    ended: int | None = None
    first_eta: int | None = None
    promise: Promise | None = None
    leave: Leave | None = None
    moves: int = 0  # how often its nodes went away
    attempt: str = ""  # who asked last
    claim_by: int | None = None  # when a grant that nobody has claimed yet goes back, or went
    retry: int | None = None  # when a gang that it may preempt is no longer safe
    stored: bool = False  # whether it has a row already
    kind: int = -1  # the book's number for its shape and accelerators
    # worked out from the request once
    shape: Shape = field(init=False)
    duration: int = field(init=False)
    claim_within: int | None = field(init=False)
    limit: int = field(init=False)
    earliest: int = field(init=False)
    last_start: int | None = field(init=False)  # within window and deadline, on the fastest accelerator
    priority: int = field(init=False)  # of its class, where it names one
    points: int = field(init=False)  # place in the line before shares and arrival: the lowest first

    def __post_init__(self) -> None:
        request = self.request
        self.shape = shape_of(request)
        self.duration = span_us(request.duration)
        self.claim_within = None if request.claim_within is None else span_us(request.claim_within)
        self.limit = span_us(request.limit)
        self.earliest = to_us(request.earliest_start) if request.earliest_start else 0
        self.last_start = last_start(request, min(self.limit_on(name) for name in request.accelerators))
        self.priority = request.priority
        self.points = -self.priority

    @property
    def rank(self) -> Rank:
        """The rank that its promise was made at."""
        return (self.promise and self.promise.rank) or (self.points, 0.0, self.arrival)

    @property
    def firm(self) -> bool:
        """Whether its promise, if it has one, is an accepted window, which nobody displaces."""
        return self.promise is not None and self.promise.firm

    @property
    def displaceable(self) -> bool:
        """Whether it has a promise that a higher rank may displace."""
        return self.promise is not None and not self.promise.firm

    @property
    def is_told(self) -> bool:
        """Whether its holder was told to leave; a drain that is far ahead is told later."""
        return self.leave is not None and not self.leave.since

    @property
    def latest(self) -> int | None:
        """The last start in time; a gang whose nodes went away was in time once, and may start again at any time."""
        return None if self.moves else self.last_start

    def until_on(self, accelerator: str) -> int | None:
        """Return the last start in time on an accelerator; None: any start is."""
        if self.request.deadline is None or self.moves:
            return self.latest
        return last_start(self.request, self.limit_on(accelerator))

    def limit_on(self, accelerator: str) -> int:
        """Return the hard walltime on an accelerator, by its measured speed."""
        return self._paced(self.limit, accelerator)

    def duration_on(self, accelerator: str) -> int:
        """Return the expected run time on an accelerator, by its measured speed."""
        return self._paced(self.duration, accelerator)

    def _paced(self, span: int, accelerator: str) -> int:
        speed = self.request.speed
        return span if not speed else max(1, round(span / speed.get(accelerator, 1.0)))

    def snapshot(self) -> Snapshot:
        """Return the fields that may change, as they are now."""
        return _CHANGING_OF(self)

    def restore(self, snapshot: Snapshot) -> None:
        """Be as at a snapshot."""
        for name, value in zip(_CHANGING, snapshot, strict=True):
            setattr(self, name, value)

    def holds(self) -> int:
        """Return the slots that it holds or is promised."""
        slots = self.promise.slots if self.promise is not None else self.slots
        return sum(slot.gpus for slot in slots)

    def dues(self) -> list[int]:
        """Return the moments at which time alone may change it: expiry, promised start, window's opening and end."""
        if self.expires is not None:
            since = 0 if self.leave is None else self.leave.since
            return [] if self.state.final else [since, self.expires] if since else [self.expires]
        if not self.state.waits:
            return []
        dues = [self.promise.start if self.promise is not None else self.earliest]
        if self.latest is not None:
            dues.append(self.latest + 1)
        if self.retry is not None:
            dues.append(self.retry)
        return dues

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The slots by their nodes' names."""
        pool = self.pool
        if pool is None:
            return ()
        return tuple(
            Placement(pool=pool, node=f"{pool}-{slot.node}", pods=slot.pods, gpus=slot.gpus, pod_set=slot.pod_set)
            for slot in self.slots
        )

    def reservation(self, reason: Reason | None = None, guess: tuple[int, int] | None = None) -> Reservation:
        """Return the frozen picture; why it waits, and from when to when it may start, are worked out when asked."""
        waiting = self.state.waits
        guess = None if self.promise or not waiting else guess
        leave = self.leave if self.is_told else None
        return Reservation(
            id=self.id,
            request=self.request,
            state=self.state,
            submitted_at=from_us(self.submitted),
            token=self.token,
            placements=self.placements,
            granted_at=or_none_at(self.granted),
            expires_at=or_none_at(self.expires),
            ended_at=or_none_at(self.ended),
            first_eta=or_none_at(self.first_eta),
            eta=from_us(self.promise.start) if self.promise and waiting else or_none_at(guess[1] if guess else None),
            eta_range=(from_us(guess[0]), from_us(guess[1])) if guess else None,
            promised=self.promise is not None and waiting,
            reason=reason if waiting else None,
            notice=Notice(until=from_us(leave.until), why=leave.why, beneficiary=leave.beneficiary) if leave else None,
            interruptions=self.moves,
            attempt=self.attempt,
            claim_by=or_none_at(self.claim_by),
        )


def last_start(request: GangRequest, limit: int) -> int | None:
    """Return the last start that keeps both the window and, with this walltime in microseconds, the deadline."""
    latest, deadline = or_none_us(request.latest_start), request.deadline
    if deadline is None:
        return latest
    in_time = to_us(deadline) - limit
    return in_time if latest is None else min(latest, in_time)


def shape_of(request: GangRequest) -> Shape:
    """Return the part of a request that decides where it fits."""
    pods = sorted(
        ((pods.gpus_per_pod, pods.count, index) for index, pods in enumerate(request.pod_sets)),
        key=lambda pod: (-pod[0], pod[2]),
    )
    wish = request.topology
    level = None if wish is None or wish.level is Level.ZONE else wish.level
    return Shape(tuple(pods), level, wish is not None and wish.required, request.gpus)
