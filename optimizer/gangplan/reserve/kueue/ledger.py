"""The ledger whose rows are Workloads: Kueue admits, this keeps leases, tokens, reasons and expected starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from types import NoneType

from gangplan.clock import Clock, or_none_at, require_utc, span_us, to_us
from gangplan.errors import (
    ConflictError,
    ForbiddenError,
    InputError,
    KeyConflictError,
    NotFoundError,
    RejectedError,
    StaleTokenError,
)
from gangplan.kube import Api, Claim, Object, claim_from
from gangplan.reserve.audit import Compacted
from gangplan.reserve.codec import annotation_of, id_of, request_from_text
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.calendar import Outlook
from gangplan.reserve.kueue.housekeeping import Keeper, over_already, revived
from gangplan.reserve.kueue.objects import Place, View, read_view, refuse, refuse_late, workload_of
from gangplan.reserve.kueue.refusals import Refusals
from gangplan.reserve.kueue.writing import Pen
from gangplan.reserve.subscribers import Callback, Unsubscribe
from gangplan.reserve.takeover import require_owner, require_present
from gangplan.reserve.waiting import WaitingLedger
from gangplan.types import (
    FreeCapacity,
    GangRequest,
    Limit,
    NodeState,
    Outage,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    is_owned,
    require_attempt,
    require_positive,
    require_text,
    require_type,
)

_VIEW_S = 10.0
"""Quotas and flavors are read anew when they are older."""

_TRIES = 20
"""A write that others were faster than is decided anew so often at most."""

Act = Callable[[Claim], Claim]


class KueueLedger(WaitingLedger, Refusals):
    """A `Ledger` on one LocalQueue."""

    def __init__(self, api: Api, place: Place, *, clock: Clock) -> None:
        super().__init__(clock)
        self.api, self.place = api, place  # the cluster, and where on it the reservations are
        self._pen = Pen(api, place.namespace)
        self._view: tuple[View, float] | None = None
        self._looking = Lock()
        self._outlook = Outlook(api, place.namespace, clock, self.view)
        self._keeper = Keeper(api, self._pen, place.queue, clock, place.ahead, self._show)

    def view(self) -> View:
        """Return how the queues stand, as read a few seconds ago at most."""
        with self._looking:
            if self._view is None or time.monotonic() > self._view[1]:
                place = self.place
                seen = read_view(self.api, place.namespace, place.queue, place.resource)
                self._view = seen, time.monotonic() + _VIEW_S
            return self._view[0]

    # ------------------------------------------------------------ submit and end

    def submit(self, request: GangRequest, attempt: str = "") -> Reservation:
        """See `Ledger.submit`."""
        return self.submit_for(request, attempt=attempt)

    def submit_for(
        self,
        request: GangRequest,
        pod_sets: list[Object] | None = None,
        notes: Mapping[str, str] = {},
        attempt: str = "",
    ) -> Reservation:
        """Ask for a gang; one that a Job is to adopt has exactly its pods, and the notes that Kueue wants."""
        require_type("request", request, GangRequest, "a GangRequest")
        require_attempt(attempt)
        view, place, id = self.view(), self.place, id_of(request.request_key)
        flavors = refuse(request, view)
        self._outlook.forget()
        self._keeper.start()
        chooses = len(flavors) < len(view.mine.quotas)
        body = workload_of(
            request,
            place,
            self._clock(),
            flavors=flavors,
            classes=view.classes,
            chooses=chooses,
            pod_sets=pod_sets,
            attempt=attempt,
        )
        if notes:
            body["metadata"]["annotations"] |= notes
        claim = self._created(request, body)
        if claim is None:
            return self._again(self.claim(id), request, attempt)
        new = bool(claim.queue) and self._keeper.surely_new(id)
        if not new and (over := self._ended(claim)):
            return self._again(over, request, attempt, claim)
        if not claim.queue:
            return self._picture(claim)
        seen = self._keeper.until(id, objects.decided, place.settle.total_seconds())
        if new and not (seen and self._keeper.surely_new(id)) and (over := self._pen.records.of(id)):
            return self._again(over, request, attempt, claim)
        return self._picture(seen or self.claim(id))

    def _ended(self, made: Claim) -> Claim | None:
        """Return how a reservation ended for which a Workload was made just now; without the right to ask that goes."""
        try:
            return self._pen.records.of(made.name)
        except ForbiddenError:
            self._pen.forget(made)
            raise

    def _created(self, request: GangRequest, body: Object) -> Claim | None:
        """Create the Workload of a request; None where its key is known."""
        try:
            refuse_late(request, self._clock())
        except InputError:
            id = id_of(request.request_key)
            if self._pen.there(id) or self._pen.records.of(id):
                return None
            raise
        try:
            return self._pen.create(body)
        except RejectedError as error:
            raise InputError("request", request.request_key, f"was not taken: {error}") from error

    def _again(self, claim: Claim, request: GangRequest, attempt: str, revived: Claim | None = None) -> Reservation:
        """Answer a key that is known; a Workload that this submit has made for what is over goes again."""
        if revived is not None:
            self._pen.forget(revived)
        if not objects.state_of(claim).final:
            require_owner(request.request_key, claim.attempt, attempt)
        if claim.request != annotation_of(request):
            raise KeyConflictError(f"request_key: {request.request_key!r} was used with another body: choose another")
        id = ReservationId(claim.name)
        return self._taken_over(id, attempt) if attempt not in ("", claim.attempt) else self.get(id)

    def _taken_over(self, id: ReservationId, attempt: str) -> Reservation:
        """Let another attempt have a reservation, unless it has ended."""

        def act(claim: Claim) -> Claim:
            if objects.state_of(claim).final or claim.attempt == attempt:
                return claim
            request = request_from_text(claim.request)
            require_owner(request.request_key, claim.attempt, attempt)
            lease = None if request.claim_within else objects.lease_of(claim, request)
            return self._pen.take_over(claim, attempt, self._clock(), lease and lease.end)

        return self._write_fresh(id, act)

    def renew(self, id: ReservationId, token: Token, ttl: timedelta | None = None) -> Reservation:
        """See `Ledger.renew`."""
        require_type("token", token, int, "a whole number")
        if ttl is not None:
            require_type("ttl", ttl, timedelta, "a timedelta")
            require_positive("ttl", ttl.total_seconds())

        def act(claim: Claim) -> Claim:
            request, now = request_from_text(claim.request), to_us(self._clock())
            lease = objects.lease_of(claim, request)
            if not claim.safe or claim.token != token or lease is None or objects.opens_later(claim, request, now):
                raise objects.stale(claim, "renewed")
            wanted = now + (span_us(request.duration) if ttl is None else span_us(ttl))
            return self._pen.lease(claim, token, min(wanted, lease.hard_end))

        return self._write(id, act)

    def release(self, id: ReservationId, token: Token) -> Reservation:
        """See `Ledger.release`."""
        require_type("token", token, int, "a whole number")

        def act(claim: Claim) -> Claim:
            final = objects.state_of(claim).final
            unknown = final and claim.token is None and claim.owner  # Kueue takes the grant of an ended Job away
            if not unknown and (claim.token != token or not (final or claim.safe)):
                raise objects.stale(claim, "released")
            return claim if final else self._pen.end(claim, objects.RELEASED, self._clock())

        return self._write(id, act)

    def cancel(self, id: ReservationId, attempt: str | None = None) -> Reservation:
        """See `Ledger.cancel`."""
        require_attempt(attempt or "")

        def act(claim: Claim) -> Claim:
            require_present(id, claim.attempt, attempt)
            if objects.state_of(claim).final:
                return claim
            return self._pen.end(claim, objects.CANCELLED, self._clock())

        return self._write(id, act)

    def _write(self, id: ReservationId, act: Act) -> Reservation:
        """Do what is due about a reservation, then decide and write; anew where somebody wrote meanwhile."""
        require_text("id", id)
        self._outlook.forget()
        known = self._keeper.seen(id)
        if known is not None:
            try:
                return self._picture(act(self._settled(known)))
            except (ConflictError, StaleTokenError):
                pass  # what was last heard may be old: what stands decides
        return self._write_fresh(id, act)

    def _write_fresh(self, id: ReservationId, act: Act) -> Reservation:
        tries = _TRIES
        while True:
            try:
                return self._picture(act(self._settled(self.claim(id))))
            except ConflictError:
                tries -= 1
                if not tries:
                    raise

    def _settled(self, claim: Claim) -> Claim:
        """Return a reservation after what was due."""
        return self._keeper.settle(claim) if claim.request else claim

    # ------------------------------------------------------------ reads

    def get(self, id: ReservationId) -> Reservation:
        """See `Ledger.get`."""
        return self._explained(self._present(id))

    def find(self, request_key: str) -> Reservation:
        """See `Ledger.find`."""
        require_text("request_key", request_key, 1)
        return self.get(id_of(request_key))

    def claim(self, id: ReservationId) -> Claim:
        """Return the Workload of a reservation as it stands, or the record of its end."""
        claim = self._pen.there(id)
        if claim is None or not self._keeper.surely_first(claim):
            over = self._pen.records.of(id)  # looked up last: a record is there before its Workload goes
            claim = over if claim is None or revived(claim, over) else claim
        if claim is None:
            where = f"{self.place.namespace}/{self.place.queue}"
            raise NotFoundError(f"id: there is no reservation {id!r} in {where}: list them with `gangplan status`")
        if not claim.request:
            raise NotFoundError(f"reservation {id}: is a Workload, but none of gangplan's")
        return claim

    def _picture(self, claim: Claim) -> Reservation:
        """Return a reservation as it is told to those who ask."""
        return self._explained(self._show(claim))

    def _explained(self, reservation: Reservation) -> Reservation:
        """Return a reservation with, while it waits, its expected start and who holds what it waits for."""
        if not reservation.state.waits or reservation.eta is not None:
            return reservation
        eta, reason = self._outlook.starts(f"{self.place.namespace}/{reservation.id}"), reservation.reason
        if reason is not None and reason.limit is not Limit.WINDOW:
            reason = self._outlook.explained(reservation.request, reason)
        return replace(reservation, eta=or_none_at(eta), reason=reason)

    def _show(self, claim: Claim) -> Reservation:
        """Return a reservation for those who watch it: what is expected is for those who ask."""
        return objects.picture(claim, to_us(self._clock()))

    def calendar(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """See `Ledger.calendar`."""
        return self._outlook.free(start, end)

    def explain(self, id: ReservationId) -> Reason | None:
        """See `Ledger.explain`."""
        self._outlook.forget()
        return self._picture(self.claim(id)).reason

    def what_if(self, request: GangRequest) -> tuple[datetime | None, Reason | None]:
        """See `Ledger.what_if`."""
        require_type("request", request, GangRequest, "a GangRequest")
        return self._outlook.what_if(request)

    def history(self, since: datetime | None = None) -> tuple[Reservation, ...]:
        """See `Ledger.history`: what ended stays until it is compacted; what a Job adopted, as long as the Job."""
        until = None if since is None else require_utc("since", since)
        every = (objects.picture(claim, to_us(self._clock())) for claim in self._claims())
        return tuple(r for r in every if until is None or r.ended_at is None or r.ended_at >= until)

    def list(self, state: ReservationState | None = None, owner: str = "") -> tuple[Reservation, ...]:
        """See `Ledger.list`."""
        require_type("state", state, (ReservationState, NoneType), "a ReservationState")
        require_attempt(owner)
        every = [self._picture(claim) for claim in self._claims() if is_owned(claim.attempt, owner)]
        return tuple(reservation for reservation in every if state is None or reservation.state is state)

    def _claims(self) -> list[Claim]:
        """Return all reservations in order of arrival, after what was due: what is told as final has been written."""
        live, over = self._everything()
        present = {claim.name: self._kept(claim) for claim in live if not revived(claim, over.get(claim.name))}
        return sorted((over | present).values(), key=lambda claim: claim.submitted)

    def _kept(self, claim: Claim) -> Claim:
        """Return a reservation after what was due, or as it was where somebody else was faster."""
        try:
            return self._settled(claim)
        except (ConflictError, NotFoundError):
            return self._pen.there(claim.name) or self._pen.records.of(claim.name) or claim

    def _everything(self) -> tuple[list[Claim], dict[str, Claim]]:
        """Return the reservations' Workloads, and by name those that are over; these are read last, and count."""
        space, queue = self.place.namespace, self.place.queue
        every = [claim_from(item) for item in self.api.items(objects.workloads(space))]
        live = [claim for claim in every if claim.request and claim.our_queue == queue]
        return live, self._pen.records.all(queue)

    # ------------------------------------------------------------ waiting

    def _present(self, id: ReservationId) -> Reservation:
        require_text("id", id)
        for _ in range(_TRIES):
            try:
                return self._show(self._settled(self.claim(id)))
            except ConflictError:
                continue
        return self._show(self.claim(id))

    def _subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        return self._keeper.subscribe(id, callback)

    def _differs(self, reservation: Reservation, previous: Reservation) -> bool:
        """Tell whether a state is another one for whoever watches; Kueue's own reason is part of it."""
        return reservation != previous

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `Ledger.subscribe`."""
        self.claim(id)
        return self._keeper.subscribe(id, callback)

    # ------------------------------------------------------------ keeping house

    def tick(self) -> None:
        """See `Ledger.tick`: complete evictions, expire leases, queue windows, delete Workloads of what is over."""
        live, over = self._everything()
        for claim in live:
            ended = over.get(claim.name)
            if ended is not None and not claim.end and over_already(claim, ended):
                with suppress(ConflictError):  # somebody writes it: the next look decides
                    self._pen.delete(claim)
            else:
                self._kept(claim)

    def serve(self) -> None:
        """Watch the queue and do what is due from now on, until the ledger is closed."""
        self._keeper.start()
        self._keeper.learn()

    def live(self) -> tuple[Reservation, ...]:
        """Return what waits or holds slots and no Job has adopted, as `serve` has last heard of it: no call is made."""
        every = (self._show(claim) for claim in self._keeper.live())
        return tuple(reservation for reservation in every if not reservation.state.final)

    def compact(self, before: datetime) -> Compacted:
        """See `Ledger.compact`: delete what ended before a moment; there is no log to fold."""
        limit, now = require_utc("before", before), to_us(self._clock())
        every = {claim.name: (claim, objects.picture(claim, now)) for claim in self._claims()}
        old = {id for id, (_, seen) in every.items() if seen.ended_at is not None and seen.ended_at < limit}
        for id in old:
            self._pen.forget(every[id][0])
        self._pen.records.forget(self.place.queue, old)
        return Compacted(reservations=len(old), changes=0)

    def close(self) -> None:
        """See `Ledger.close`."""
        self._keeper.close()

    def nodes(self) -> dict[str, NodeState]:
        """Return the cluster's GPU nodes that take no pods now: not ready, or cordoned."""
        return objects.nodes_away(self.api)

    def outages(self) -> dict[str, Outage]:
        """Return the same with what else is known of them, which is nothing."""
        return {name: Outage(state=state) for name, state in self.nodes().items()}
