"""One reservation as the ledger works on it: mutable, in whole microseconds; `Reservation` is its frozen picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from gangplan.reserve.board import Shape, Slots
from gangplan.reserve.moments import from_us, or_none_at, or_none_us, span_us, to_us
from gangplan.types import GangRequest, Placement, Reason, Reservation, ReservationId, ReservationState, Token

AGE_STEP_US = 60_000_000
"""Waiting this long is worth one point of priority."""


@dataclass(slots=True, eq=False)
class Plan:
    """A promised start: where and when, and whether it is an accepted window, which nobody displaces."""

    pool: str
    slots: Slots
    start: int
    end: int
    firm: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """A request, what became of it, and what admission needs of it at hand."""

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
    hard_end: int | None = None  # no renewal can pass it; plans of others rely on it
    expires: int | None = None
    ended: int | None = None
    first_eta: int | None = None
    plan: Plan | None = None
    reason: Reason | None = None
    stored: bool = False  # it has a row already
    kind: int = -1  # the book's number for its shape and accelerators
    # drawn from the request once
    shape: Shape = field(init=False)
    duration: int = field(init=False)
    limit: int = field(init=False)
    earliest: int = field(init=False)
    latest: int | None = field(init=False)
    rank: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.shape = shape_of(request)
        self.duration = span_us(request.duration)
        self.limit = span_us(request.limit)
        self.earliest = to_us(request.earliest_start) if request.earliest_start else 0
        self.latest = or_none_us(request.latest_start)
        # Ageing at one rate for all keeps the order of two requests for ever, so that it may be computed once.
        self.rank = (self.submitted // AGE_STEP_US - request.priority, self.arrival)

    def dues(self) -> list[int]:
        """Return the moments at which time alone may change it: expiry, promised start, window's opening and end."""
        if self.expires is not None:
            return [] if self.state.final else [self.expires]
        if self.state is not ReservationState.WAITING:
            return []
        first = self.plan.start if self.plan is not None else self.earliest
        return [first] if self.latest is None else [first, self.latest + 1]

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

    def reservation(self) -> Reservation:
        """Return the frozen picture."""
        waiting = self.state is ReservationState.WAITING
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
            eta=from_us(self.plan.start) if self.plan and waiting else None,
            reason=self.reason if waiting else None,
        )


def shape_of(request: GangRequest) -> Shape:
    """Return what of a request decides where it fits."""
    pods = sorted(
        ((pods.gpus_per_pod, pods.count, index) for index, pods in enumerate(request.pod_sets)),
        key=lambda pod: (-pod[0], pod[2]),
    )
    return Shape(tuple(pods), request.same_rack, request.gpus)
