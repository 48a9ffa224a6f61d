"""The ledger whose rows are Workloads: Kueue admits, this keeps leases, tokens, reasons and expected starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Lock
from types import NoneType
from typing import Any, NoReturn, Self

from gangplan.clock import Clock, require_utc
from gangplan.errors import (
    InputError,
    KeyConflictError,
    NotFoundError,
    StaleTokenError,
    UnsupportedError,
    WaitTimeoutError,
)
from gangplan.kube.api import Api, ConflictError, Object, RejectedError
from gangplan.reserve.audit import AuditEvent, Compacted, Replay
from gangplan.reserve.codec import id_of
from gangplan.reserve.contract import POLL, PolicyChange, Sleep
from gangplan.reserve.kueue import names, picture
from gangplan.reserve.kueue.annotation import annotation_of, request_of
from gangplan.reserve.kueue.calendar import Calendar, Wish, holds_of, line_of
from gangplan.reserve.kueue.claim import Claim, claim_from
from gangplan.reserve.kueue.keeper import Keeper
from gangplan.reserve.kueue.queues import View, read_view
from gangplan.reserve.kueue.workload import adopted_workload, refuse, workload_of
from gangplan.reserve.kueue.writing import Pen
from gangplan.reserve.moments import from_us, span_us, to_us
from gangplan.reserve.policy import Policy
from gangplan.reserve.subscribers import Callback, Unsubscribe
from gangplan.types import (
    CapacityCalendar,
    FreeCapacity,
    GangRequest,
    Limit,
    NodeState,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    require_positive,
    require_text,
    require_type,
)

_VIEW_S = 10.0
"""Quotas and flavors are read anew when they are older."""

_LINE_S = 2.0
"""So is the line, for expected starts."""

_TRIES = 20
"""A write that others were faster than is decided anew so often at most."""

Act = Callable[[Claim], Claim]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the reservations are, and how the ledger behaves there."""

    namespace: str
    queue: str
    resource: str = names.GPU
    settle: timedelta = timedelta(seconds=2)  # so long a submit waits for Kueue's first word
    ahead: timedelta = timedelta(minutes=5)  # so long before its window a gang is queued, to hold its slots until then


class KueueLedger:
    """A `Ledger` on one LocalQueue."""

    def __init__(self, api: Api, place: Place, *, clock: Clock) -> None:
        self._api, self._place, self._clock = api, place, clock
        self._pen = Pen(api, place.namespace)
        self._view: tuple[View, float] | None = None
        self._line: tuple[dict[str, int | None], float] = ({}, 0.0)
        self._looking = Lock()
        self._keeper = Keeper(api, place.namespace, place.queue, clock, place.ahead, self._show)

    @property
    def api(self) -> Api:
        """The cluster."""
        return self._api

    @property
    def place(self) -> Place:
        """Where the reservations are."""
        return self._place

    def view(self) -> View:
        """Return how the queues stand, as read a few seconds ago at most."""
        with self._looking:
            if self._view is None or time.monotonic() > self._view[1]:
                place = self._place
                seen = read_view(self._api, place.namespace, place.queue, place.resource)
                self._view = seen, time.monotonic() + _VIEW_S
            return self._view[0]

    # ------------------------------------------------------------ submit and end

    def submit(self, request: GangRequest) -> Reservation:
        """See `Ledger.submit`."""
        require_type("request", request, GangRequest, "a GangRequest")
        view = self.view()
        flavors = refuse(request, view)
        chooses = len(flavors) < len(view.mine.quotas)
        return self._submit(
            request, lambda where: workload_of(request, flavors, chooses=chooses, classes=view.classes, **where)
        )

    def submit_for(self, request: GangRequest, pod_sets: list[Object]) -> Reservation:
        """Ask for a gang whose pods are exactly those of a Job that is to adopt it."""
        require_type("request", request, GangRequest, "a GangRequest")
        view = self.view()
        refuse(request, view)
        return self._submit(request, lambda where: adopted_workload(request, pod_sets, classes=view.classes, **where))

    def _submit(self, request: GangRequest, build: Callable[[dict[str, Any]], Object]) -> Reservation:
        place, id = self._place, id_of(request.request_key)
        self._line = {}, 0.0
        where = {"namespace": place.namespace, "queue": place.queue, "now": self._clock(), "ahead": place.ahead}
        self._keeper.start()
        try:
            claim = self._pen.create(build(where))
        except RejectedError as error:
            raise InputError("request", request.request_key, f"was not taken: {error}") from error
        if claim is None:
            self._same(self._pen.read(id), request)
            return self.get(id)
        if not claim.queue:
            return self._picture(claim)
        seen = self._keeper.until(id, picture.decided, place.settle.total_seconds())
        return self._picture(seen or self._pen.read(id))

    def _same(self, claim: Claim, request: GangRequest) -> None:
        """Refuse a key that was used for another request."""
        if claim.request != annotation_of(request):
            raise KeyConflictError(f"request_key: {request.request_key!r} was used with another body: choose another")

    def renew(self, id: ReservationId, token: Token, ttl: timedelta | None = None) -> Reservation:
        """See `Ledger.renew`."""
        require_type("token", token, int, "a whole number")
        if ttl is not None:
            require_type("ttl", ttl, timedelta, "a timedelta")
            require_positive("ttl", ttl.total_seconds())

        def act(claim: Claim) -> Claim:
            request, now = request_of(claim.request), to_us(self._clock())
            lease = picture.lease_of(claim, request)
            if not claim.safe or claim.token != token or lease is None or picture.opens_later(claim, request, now):
                raise self._stale(claim, "renewed")
            wanted = now + (span_us(request.duration) if ttl is None else span_us(ttl))
            return self._pen.lease(claim, token, min(wanted, lease.hard_end))

        return self._write(id, act)

    def release(self, id: ReservationId, token: Token) -> Reservation:
        """See `Ledger.release`."""
        require_type("token", token, int, "a whole number")

        def act(claim: Claim) -> Claim:
            if picture.state_of(claim).final:
                return claim
            if claim.token != token or not claim.safe:
                raise self._stale(claim, "released")
            return self._pen.end(claim, picture.RELEASED, "released by its holder", self._clock())

        return self._write(id, act)

    def cancel(self, id: ReservationId) -> Reservation:
        """See `Ledger.cancel`."""

        def act(claim: Claim) -> Claim:
            if picture.state_of(claim).final:
                return claim
            return self._pen.end(claim, picture.CANCELLED, "cancelled", self._clock())

        return self._write(id, act)

    def _write(self, id: ReservationId, act: Act) -> Reservation:
        """Do what is due about a reservation, then decide and write; anew where somebody wrote meanwhile."""
        require_text("id", id)
        self._line = {}, 0.0
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
                return self._picture(act(self._settled(self._read(id))))
            except ConflictError:
                tries -= 1
                if not tries:
                    raise

    def _stale(self, claim: Claim, done: str) -> StaleTokenError:
        state = picture.state_of(claim)
        if state.final:
            return StaleTokenError(f"reservation {claim.name}: is {state} and cannot be {done}: nothing was changed")
        return StaleTokenError(f"reservation {claim.name}: the token is not its present one: nothing was changed")

    def _settled(self, claim: Claim) -> Claim:
        """Return a reservation after what was due."""
        return self._keeper.settle(claim) if claim.request else claim

    # ------------------------------------------------------------ reads

    def get(self, id: ReservationId) -> Reservation:
        """See `Ledger.get`."""
        require_text("id", id)
        for _ in range(_TRIES):
            try:
                return self._picture(self._settled(self._read(id)))
            except ConflictError:
                continue
        return self._picture(self._read(id))

    def find(self, request_key: str) -> Reservation:
        """See `Ledger.find`."""
        require_text("request_key", request_key, 1)
        return self.get(id_of(request_key))

    def claim(self, id: ReservationId) -> Claim:
        """Return the Workload of a reservation as it stands."""
        return self._read(id)

    def _read(self, id: ReservationId) -> Claim:
        try:
            claim = self._pen.read(id)
        except NotFoundError:
            raise NotFoundError(f"reservation {id}: is not in {self._place.namespace}/{self._place.queue}") from None
        if not claim.request:
            raise NotFoundError(f"reservation {id}: is a Workload, but none of gangplan's")
        return claim

    def _picture(self, claim: Claim) -> Reservation:
        """Return a reservation with, while it waits, its expected start."""
        now = to_us(self._clock())
        plain = picture.picture(claim, now)
        if not plain.state.waits or plain.eta is not None:
            return plain
        eta = self._starts(claim.key)
        return picture.picture(claim, now, eta=eta)

    def _show(self, claim: Claim) -> Reservation:
        """Return a reservation for those who watch it: what is expected is for those who ask."""
        return picture.picture(claim, to_us(self._clock()))

    def _starts(self, key: str) -> int | None:
        """Return when one of the cohort's line is expected to start, as seen a moment ago; a newcomer is looked at."""
        starts, until = self._line
        if time.monotonic() >= until or key not in starts:
            calendar, line = self._calendar()
            starts = dict.fromkeys(wish.name for wish in line) | calendar.take(line)
            self._line = starts, time.monotonic() + _LINE_S
        return starts.get(key)

    def _calendar(self) -> tuple[Calendar, list[Wish]]:
        """Read all Workloads of the cohort: what is held, and the line."""
        view, now = self.view(), to_us(self._clock())
        claims = [claim_from(item) for item in self._api.items(names.workloads())]
        return Calendar(view, holds_of(claims, now), now), line_of(claims, view, self._queues())

    def _queues(self) -> dict[str, str]:
        """Return the ClusterQueue of every LocalQueue."""
        found = self._api.items(f"{names.API}/localqueues")
        return {
            f"{one['metadata']['namespace']}/{one['metadata']['name']}": one["spec"]["clusterQueue"] for one in found
        }

    def calendar(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """See `Ledger.calendar`."""
        if to_us(require_utc("end", end)) <= to_us(require_utc("start", start)):
            raise InputError("end", end.isoformat(), f"must be later than start {start.isoformat()}")
        calendar, line = self._calendar()
        calendar.take([wish for wish in line if wish.earliest > calendar.now])
        return calendar.spans(start, end)

    def explain(self, id: ReservationId) -> Reason | None:
        """See `Ledger.explain`."""
        claim = self._read(id)
        reservation = self._picture(claim)
        if not reservation.state.waits or reservation.reason is None:
            return None
        holders = self._holders(claim)
        reason = reservation.reason
        return Reason(limit=reason.limit, message=reason.message, holders=holders, helps=reason.helps)

    def _holders(self, claim: Claim) -> tuple[str, ...]:
        """Return those who hold what a request could use, the first to go first."""
        request = request_of(claim.request)
        fitting = {flavor.name for flavor in self.view().fitting(request.accelerators)}
        calendar, _ = self._calendar()
        holds = sorted((hold for hold in calendar.holds if hold.flavor in fitting), key=lambda hold: hold.end)
        mine = f"{self._place.namespace}/"
        return tuple(dict.fromkeys(hold.name.removeprefix(mine) for hold in holds))

    def what_if(self, request: GangRequest) -> tuple[datetime | None, Reason | None]:
        """See `Ledger.what_if`."""
        require_type("request", request, GangRequest, "a GangRequest")
        flavors = refuse(request, self.view())
        calendar, line = self._calendar()
        calendar.take(line)
        wish = Wish(
            name="",
            queue=self.view().mine.name,
            flavors=tuple(flavor.name for flavor in flavors),
            gpus=request.gpus,
            span=span_us(request.limit),
            earliest=to_us(request.earliest_start) if request.earliest_start else 0,
            rank=(0, 0),
        )
        found = calendar.start_of(wish)
        if found is None:
            most = max(self.view().most(flavor.name) for flavor in flavors)
            words = f"no start is in sight: the queue may use {most} GPUs of what it asks for {request.gpus} of"
            return None, Reason(limit=Limit.QUOTA if request.gpus > most else Limit.CAPACITY, message=words)
        at = found[0]
        if at <= calendar.now:
            return from_us(at), None
        return from_us(at), Reason(limit=Limit.CAPACITY, message="the GPUs are held by others until then")

    def history(self, since: datetime | None = None) -> tuple[Reservation, ...]:
        """See `Ledger.history`: what ended stays until it is compacted, or Kueue's own retention deletes it."""
        until = None if since is None else require_utc("since", since)
        every = (picture.picture(claim, to_us(self._clock())) for claim in self._claims())
        found = [one for one in every if until is None or one.ended_at is None or one.ended_at >= until]
        return tuple(found)

    def list(self, state: ReservationState | None = None) -> tuple[Reservation, ...]:
        """See `Ledger.list`."""
        require_type("state", state, (ReservationState, NoneType), "a ReservationState")
        every = [self._picture(claim) for claim in self._claims()]
        return tuple(one for one in every if state is None or one.state is state)

    def _claims(self) -> list[Claim]:
        """Return all reservations in order of arrival."""
        selector = f"{names.MANAGED}=gangplan,{names.QUEUE}={self._place.queue}"
        found = self._api.items(names.workloads(self._place.namespace), labelSelector=selector)
        return sorted((claim for item in found if (claim := claim_from(item)).request), key=lambda one: one.submitted)

    # ------------------------------------------------------------ waiting

    def wait(
        self, id: ReservationId, *, timeout: timedelta, poll: timedelta = POLL, sleep: Sleep = time.sleep
    ) -> Reservation:
        """See `Ledger.wait`."""
        require_type("timeout", timeout, timedelta, "a timedelta")
        deadline = self._clock() + timeout
        seen = self.get(id)
        with self._seen(id, poll, sleep) as look:
            while seen.state.waits:
                left = deadline - self._clock()
                if left <= timedelta(0):
                    why = f": {seen.reason.message}" if seen.reason else ""
                    key = seen.request.request_key
                    raise WaitTimeoutError(f"timeout: {key!r} still waits after {timeout.total_seconds():g} s{why}")
                seen = look(left) or self.get(id)
        return seen

    def watch(self, id: ReservationId, *, poll: timedelta = POLL, sleep: Sleep = time.sleep) -> Iterator[Reservation]:
        """See `Ledger.watch`."""
        with self._seen(id, poll, sleep) as look:
            last = seen = self.get(id)
            yield seen
            while not last.state.final:
                seen = look(timedelta(seconds=30)) or self.get(id)
                if replace(seen, eta=None) != replace(last, eta=None):  # an expected start alone is no change
                    yield seen
                last = seen

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """See `Ledger.subscribe`."""
        self._read(id)
        return self._keeper.subscribe(id, callback)

    @contextmanager
    def _seen(self, id: ReservationId, poll: timedelta, sleep: Sleep) -> Generator[Callable[[timedelta], Any]]:
        """Return how to wait for the next picture: told by the keeper, or by sleeps that were given."""
        if sleep is not time.sleep:
            yield lambda left: sleep(min(left, poll).total_seconds())
            return
        news: SimpleQueue[Reservation] = SimpleQueue()
        unsubscribe = self._keeper.subscribe(id, news.put)

        def look(left: timedelta) -> Reservation | None:
            try:
                return news.get(timeout=min(left, timedelta(seconds=30)).total_seconds())
            except Empty:
                return None

        try:
            yield look
        finally:
            unsubscribe()

    # ------------------------------------------------------------ keeping house

    def tick(self) -> None:
        """See `Ledger.tick`: complete evictions, expire leases, queue windows, say that pods are ready."""
        for claim in self._claims():
            try:
                self._settled(claim)
            except (ConflictError, NotFoundError):
                continue  # somebody was first

    def serve(self) -> None:
        """Watch the queue and do what is due from now on, until the ledger is closed."""
        self._keeper.start()

    def compact(self, before: datetime) -> Compacted:
        """See `Ledger.compact`: delete what ended before a moment; Kueue keeps no log to fold."""
        limit, now, gone = require_utc("before", before), to_us(self._clock()), 0
        for claim in self._claims():
            one = picture.picture(claim, now)
            if one.state.final and one.ended_at is not None and one.ended_at < limit:
                self._pen.delete(claim)
                gone += 1
        return Compacted(reservations=gone, changes=0)

    def close(self) -> None:
        """See `Ledger.close`."""
        self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    # ------------------------------------------------------------ what Kueue cannot do

    def resize(self, id: ReservationId, token: Token, pods: tuple[int, ...]) -> Reservation:
        """Refused: a Workload's pod sets are frozen while its quota is reserved."""
        _refuse("resize", "a gang keeps its size while it is reserved: release it and submit another")

    def publish(self, calendar: CapacityCalendar, *, keep: bool = False) -> None:
        """Refused: capacity is what the ClusterQueues say."""
        _refuse("publish", "capacity is the ClusterQueues' quota: change that")

    def mark_node(self, node: str, state: NodeState, *, why: str = "") -> None:
        """Refused: nodes are the cluster's."""
        _refuse("mark_node", f"use kubectl cordon or drain on {node}")

    def nodes(self) -> dict[str, NodeState]:
        """Return the cluster's GPU nodes that take no pods now: not ready, or cordoned."""
        found: dict[str, NodeState] = {}
        for item in self._api.items("/api/v1/nodes"):
            conditions = item.get("status", {}).get("conditions", ())
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
            if not ready:
                found[item["metadata"]["name"]] = NodeState.LOST
            elif item.get("spec", {}).get("unschedulable"):
                found[item["metadata"]["name"]] = NodeState.DRAINING
        return found

    def policy(self) -> Policy:
        """Refused: the rules are the ClusterQueues'."""
        _refuse("policy", "the rules are its ClusterQueues', Cohorts and WorkloadPriorityClasses: see kubectl get")

    def set_policy(self, policy: Policy, *, by: str, why: str) -> None:
        """Refused: the rules are the ClusterQueues'."""
        _refuse("set_policy", "change its ClusterQueues, Cohorts and WorkloadPriorityClasses")

    def policies(self) -> tuple[PolicyChange, ...]:
        """Refused: Kueue keeps no past of its rules."""
        _refuse("policies", "Kueue keeps no past of its rules: keep them in git")

    def audit(self, since: datetime | None = None, id: ReservationId | None = None) -> Iterator[AuditEvent]:
        """Refused: Kueue keeps no log."""
        _refuse("audit", "Kueue keeps no log: switch the API server's audit log on")

    def replay(self) -> Replay:
        """Refused: Kueue keeps no log."""
        _refuse("replay", "Kueue keeps no log to replay: its Workloads are the state")


def _refuse(what: str, remedy: str) -> NoReturn:
    raise UnsupportedError(f"{what}: a ledger on Kueue cannot do that: {remedy}")
