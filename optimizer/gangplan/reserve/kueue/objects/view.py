"""From a Workload to the reservation that it is: pure, for any moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gangplan.clock import SECOND, from_us, or_none_at, span_us, to_us
from gangplan.errors import StaleTokenError
from gangplan.kube import Claim, Mark
from gangplan.reserve.admission import last_start
from gangplan.reserve.codec import request_from_text
from gangplan.reserve.kueue.objects.workload import pod_set_name
from gangplan.types import (
    GangRequest,
    Limit,
    Placement,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
)

RELEASED, CANCELLED, EXPIRED, PREEMPTED = "Released", "Cancelled", "Expired", "Preempted"
"""The reasons that we finish a Workload with."""

_ENDS = {
    RELEASED: ReservationState.RELEASED,
    CANCELLED: ReservationState.CANCELLED,
    EXPIRED: ReservationState.EXPIRED,
    PREEMPTED: ReservationState.PREEMPTED,
    "OutOfSync": ReservationState.CANCELLED,
}
"""Kueue's own reasons (Succeeded, Failed, OwnerNotFound) say that the Job that adopted it is over: it is released."""

_BY_TIME = "MaximumExecutionTimeExceeded"


_READY_AFTER = 3 * SECOND
"""What lives shorter never says that its pods are ready. Kueue's clock counts whole seconds: 1 may be over at once."""


_GOES_BY = 5 * SECOND

_SKEW_S = 5
"""So many seconds Kueue lets a lease live after its end, as its clock may be ahead of a holder's."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A grant as the clock has it, in microseconds: from when, to when, and no renewal past which end."""

    start: int
    end: int
    hard_end: int
    claim_by: int | None = None  # nobody has claimed it yet


def state_of(claim: Claim) -> ReservationState:
    """Return where a Workload stands."""
    if claim.finished:
        return _ENDS.get(claim.marks["Finished"].reason, ReservationState.RELEASED)
    if claim.end:
        return _ENDS[claim.end.partition(":")[0]]
    if claim.deleted:
        return ReservationState.CANCELLED
    if ended_by_time(claim):
        return ReservationState.EXPIRED
    if claim.evicted and preempted(claim):
        return ReservationState.PREEMPTED
    if claim.safe:
        return ReservationState.GRANTED
    return ReservationState.INTERRUPTED if claim.evictions else ReservationState.WAITING


def preempted(claim: Claim) -> bool:
    """Tell whether what took its quota is another gang; what else does (a stopped queue, a lost node) it outlives."""
    mark = claim.marks.get("Evicted")
    return mark is not None and mark.reason == "Preempted"


def ended_by_time(claim: Claim) -> bool:
    """Tell whether Kueue itself ended it at its walltime: it is inactive at once, and evicted a moment later."""
    marks = [claim.marks.get(condition) for condition in ("DeactivationTarget", "Evicted")]
    reasons = [f"{mark.reason}{mark.message}" for mark in marks if mark and mark.holds]
    return not claim.active and any(_BY_TIME in reason for reason in reasons)


def over_by_kueue(claim: Claim) -> bool:
    """Tell whether what a Job adopted is over without us: the Job ended, or outlived its walltime."""
    return bool(claim.owner) and (claim.finished or (ended_by_time(claim) and not claim.end))


def stale(claim: Claim, done: str) -> StaleTokenError:
    """Return the refusal of a call that no longer holds the reservation; `done` says what it would have become."""
    state = state_of(claim)
    if state.final:
        return StaleTokenError(f"reservation {claim.name}: is {state} and cannot be {done}: nothing was changed")
    return StaleTokenError(f"reservation {claim.name}: the token is not its present one: nothing was changed")


def end_of(claim: Claim) -> str:
    """Return how a reservation ended that is over by itself, as our own ends are written."""
    state = state_of(claim)
    reason = next(name for name, ended_as in _ENDS.items() if ended_as is state)
    return f"{reason}:{ended(claim, lease_of(claim, request_from_text(claim.request)))}"


def lease_of(claim: Claim, request: GangRequest) -> Lease | None:
    """Return the lease of what holds slots: from its admission, or from its window's opening if that is later.

    Until somebody claims it, by a first renewal, it lasts no longer than the request has it.
    """
    admitted, token = claim.admitted, claim.token
    if admitted is None or token is None:
        return None
    opens = to_us(request.earliest_start) if request.earliest_start else 0
    start = max(admitted, claim.submitted, opens)
    hard_end = start + span_us(request.limit)
    of, _, end = claim.lease.partition(":")
    if of == str(token):
        return Lease(start=start, end=min(int(end), hard_end), hard_end=hard_end)
    if request.claim_within is None:
        return Lease(start=start, end=min(start + span_us(request.duration), hard_end), hard_end=hard_end)
    claim_by = min(max(start, claim.taken_over) + span_us(request.claim_within), hard_end)
    return Lease(start=start, end=claim_by, hard_end=hard_end, claim_by=claim_by)


def spent_by(claim: Claim, end: int) -> int:
    """Return the seconds of a Workload's time limit that must count as spent for it to be over soon after a moment."""
    if claim.limit_s is None or claim.admitted is None:
        return 0
    return max(0, claim.limit_s + (claim.admitted - end) // SECOND - _SKEW_S)


def opens_later(claim: Claim, request: GangRequest, now: int) -> bool:
    """Tell whether it holds its quota only so that its window, which is still to come, finds it free."""
    return claim.safe and request.earliest_start is not None and to_us(request.earliest_start) > now


def picture(claim: Claim, now: int) -> Reservation:
    """Return the reservation that a Workload is; a start that is only expected is not in it."""
    request, eta = request_from_text(claim.request), None
    state, lease = state_of(claim), lease_of(claim, request)
    reason = reason_of(claim) if state.waits else None
    if state is ReservationState.GRANTED and opens_later(claim, request, now):
        state, lease, eta = ReservationState.WAITING, None, request.earliest_start
        reason = Reason(limit=Limit.WINDOW, message="its window is still to come; its slots are kept for it")
    holds = state is ReservationState.GRANTED
    return Reservation(
        id=ReservationId(claim.name),
        request=request,
        state=state,
        submitted_at=from_us(claim.submitted),
        token=claim.token if holds else None,
        placements=placements(claim) if holds else (),
        granted_at=from_us(lease.start) if lease and (holds or state.final) else None,
        expires_at=from_us(lease.end) if lease and (holds or state.final) else None,
        ended_at=or_none_at(ended(claim, lease)) if state.final else None,
        eta=eta,
        reason=reason,
        interruptions=claim.evictions,
        attempt=claim.attempt,
        claim_by=or_none_at(lease.claim_by) if lease and (holds or state is ReservationState.EXPIRED) else None,
    )


def ended(claim: Claim, lease: Lease | None) -> int:
    """Return when a Workload that is over ended, by what is known of it; not before it began."""
    if claim.end:
        at = int(claim.end.partition(":")[2])
    else:
        mark = claim.marks.get("Finished") or claim.marks.get("Evicted")
        at = mark.since if mark is not None else claim.created
    return max(at, claim.submitted, lease.start if lease else 0)


def placements(claim: Claim) -> tuple[Placement, ...]:
    """Return the slots: by node where Kueue knows the topology, else by flavor with an empty node."""
    request = request_from_text(claim.request)
    places = {pod_set_name(index): index for index in range(len(request.pod_sets))}
    placements: list[Placement] = []
    order = [name for name, _, gpus in claim.pod_sets if gpus]
    for share in claim.shares:
        if not share.gpus:
            continue
        place = places.get(share.pod_set, order.index(share.pod_set) if share.pod_set in order else 0)
        each = share.gpus // max(1, share.pods)
        for node, pods in share.nodes or (("", share.pods),):
            placements.append(Placement(pool=share.flavor, node=node, pods=pods, gpus=pods * each, pod_set=place))
    return tuple(placements)


_LIMITS = (
    ("topology", Limit.TOPOLOGY),
    ("insufficient unused quota", Limit.CAPACITY),
    ("maximum capacity", Limit.QUOTA),
    ("insufficient quota", Limit.QUOTA),
    ("borrowing limit", Limit.QUOTA),
    ("inactive", Limit.CALENDAR),
    ("stopped", Limit.CALENDAR),
    ("doesn't exist", Limit.CALENDAR),
    ("terminating or missing", Limit.CALENDAR),
)


def reason_of(claim: Claim) -> Reason:
    """Say why it waits, by Kueue's conditions; none of its reasons is final (what exceeds a quota may fit later)."""
    if not claim.queue:
        return Reason(limit=Limit.WINDOW, message="its window is still to come; it is queued some time before")
    mark = _telling(claim)
    if mark is None or not mark.message:
        return Reason(limit=Limit.ORDER, message="it is queued; Kueue has not looked at it yet")
    words = mark.message.lower()
    limit = next((limit for part, limit in _LIMITS if part in words), Limit.ORDER)
    return Reason(limit=limit, message=f"Kueue: {mark.message}")


def _telling(claim: Claim) -> Mark | None:
    """Return the condition that says why nothing is reserved."""
    evicted = claim.marks.get("Evicted")
    if claim.evicted and evicted is not None:
        return evicted
    for condition in ("QuotaReserved", "Admitted"):
        mark = claim.marks.get(condition)
        if mark is not None and not mark.holds:
            return mark
    return None


def decided(claim: Claim) -> bool:
    """Tell whether Kueue has said yes, or why not yet."""
    mark = claim.marks.get("QuotaReserved")
    return claim.safe or claim.finished or (mark is not None and not mark.holds and bool(mark.message))


def due_at(claim: Claim, now: int, ahead: timedelta) -> int | None:
    """Return the next moment at which something is to be done about a Workload of ours; None: time changes nothing.

    What Kueue evicted is to be completed at once, as the one that it makes room for waits for that.
    """
    if claim.deleted or not claim.request:
        return None
    if over_by_kueue(claim):
        return now
    if claim.finished:
        return None
    if claim.end:  # who ended it lets it go at once, or has died
        return None if claim.owner else int(claim.end.partition(":")[2]) + _GOES_BY
    if claim.evicted or ended_by_time(claim):
        return now
    request = request_from_text(claim.request)
    dues: list[int] = []
    if claim.safe:
        lease = lease_of(claim, request)
        dues += [lease.end] if lease else []
        if opens_later(claim, request, now) and request.earliest_start:
            dues.append(to_us(request.earliest_start))
        if not claim.on("PodsReady") and not claim.owner:
            dues.append((claim.admitted or now) + _READY_AFTER)
    else:
        latest = last_start(request, span_us(request.limit))
        dues += [latest] if latest is not None and not claim.evictions else []
        if not claim.queue and request.earliest_start:
            dues.append(to_us(request.earliest_start - ahead))
    return min(dues, default=None)
