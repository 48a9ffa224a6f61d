"""Watches the reservations of a queue: tells subscribers, completes evictions, expires leases, queues windows.

Every open ledger has a keeper once something waits or is held through it, and `gangplan ledger serve` has one for good:
whichever process is there expires the lease of a holder that has vanished. All keepers do the same. Each write is
guarded by the version of the Workload that it was decided on, so that only the first write changes something.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from threading import Condition, Event, Lock, Thread

from gangplan.clock import SECOND, Clock, from_us, span_us, to_us
from gangplan.errors import ConflictError, GangplanError, NotFoundError
from gangplan.kube import Api, Claim, Mirror, Object, claim_from
from gangplan.reserve.admission import last_start
from gangplan.reserve.codec import request_from_text
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.writing import Pen
from gangplan.reserve.subscribers import Callback, Subscribers, Unsubscribe
from gangplan.types import Reservation, ReservationId

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""The most seconds between two looks at the clock, which may be one that is set by hand."""

_AGAIN_S = 0.2
"""Seconds before something that failed is tried again."""

_CHECK_S = 60
"""Seconds between two looks for a record that a holder has ended: whoever ended it may have died before deleting it."""

Picture = Callable[[Claim], Reservation]


class Keeper:
    """The mirror of one LocalQueue's reservations, and one worker that does what is due."""

    def __init__(self, api: Api, pen: Pen, queue: str, clock: Clock, ahead: timedelta, show: Picture) -> None:
        self._clock, self._ahead, self._show = clock, ahead, show
        self._pen, self._namespace, self._queue = pen, pen.namespace, queue
        self._mirror = Mirror(api, objects.workloads(pen.namespace), self._ours, self._heard)
        self._subscribers = Subscribers()
        self._news = Condition()  # guards what follows, and wakes the worker
        self._due: list[tuple[int, int, str]] = []  # moment, number, Workload
        self._checks: list[tuple[float, str]] = []  # the same for looks at what ended, by a clock that nobody moves
        self._gone: dict[str, Claim] = {}  # as last heard of, where somebody waits to hear how it ended
        self._numbers = count()
        self._waiting: dict[str, list[Event]] = {}
        self._ended: set[str] = set()  # what may have a record, by all that was heard of
        self._recorded: set[str] = set()  # Workloads that are over with their Job, and have a record
        self._learned = 0  # the mirror's list since when that is all; 0: never
        self._starting, self._started, self._closed = Lock(), False, False
        self._worker = Thread(target=self._work, name=f"keeper {pen.namespace}/{queue}", daemon=True)

    # ------------------------------------------------------------ what others ask of it

    def start(self) -> None:
        """Start it if it does not run, and wait until it has seen all Workloads once."""
        with self._starting:
            if not self._started:
                self._started = True
                self._mirror.start()
                self._worker.start()
        self._mirror.ready.wait()

    def learn(self) -> None:
        """Read which reservations have ended, so that a new one need not be looked up among them.

        Read after the mirror's list: what went before that has its record, and what goes later is heard of.
        """
        lists = self._mirror.steady
        self._ended |= self._pen.records.names(self._queue)
        self._learned = lists

    def surely_new(self, id: str) -> bool:
        """Tell whether no earlier reservation of that id has ended, as far as the mirror has heard.

        Events come in order: once the mirror has seen a Workload, it has heard of all that went before it was created.
        """
        return self._learned == self._mirror.steady > 0 and id not in self._ended

    def surely_first(self, claim: Claim) -> bool:
        """Tell whether a Workload is the first of its id."""
        seen = self.seen(claim.name)
        return seen is not None and seen.uid == claim.uid and self.surely_new(claim.name)

    def seen(self, id: str) -> Claim | None:
        """Return a reservation as last heard of; None where it was not."""
        return self._mirror.there.get(f"{self._namespace}/{id}")

    def live(self) -> list[Claim]:
        """Return the reservations that are not over and that no Job has adopted, as last heard of."""
        return [claim for claim in list(self._mirror.there.values()) if not claim.owner and not claim.finished]

    def until(self, id: str, good: Callable[[Claim], bool], seconds: float) -> Claim | None:
        """Wait until a condition holds of a reservation; None when it does not hold in time."""
        deadline, name = time.monotonic() + seconds, f"{self._namespace}/{id}"
        changed = Event()
        with self._news:
            self._waiting.setdefault(name, []).append(changed)
        try:
            while not self._closed:
                changed.clear()
                claim = self.seen(id)
                if claim is not None and good(claim):
                    return claim
                if not changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
            return None
        finally:
            with self._news:
                self._waiting[name].remove(changed)
                if not self._waiting[name]:
                    del self._waiting[name]

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Tell `callback` soon how a reservation stands, then every change of it."""
        self.start()
        unsubscribe = self._subscribers.add(id, callback)
        with self._news:
            self._push(0, f"{self._namespace}/{id}")
        return unsubscribe

    def close(self) -> None:
        """End the watch and the worker."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            for changed in [event for of_name in self._waiting.values() for event in of_name]:
                changed.set()
        if self._started:
            self._mirror.close()
            self._worker.join(timeout=5)

    # ------------------------------------------------------------ the mirror's thread

    def _ours(self, item: Object) -> Claim | None:
        """Return a reservation of this queue; a Workload that only carries our labels is none."""
        claim = claim_from(item)
        return claim if claim.request and claim.our_queue == self._queue else None

    def _heard(self, name: str, before: Claim | None, now: Claim | None) -> None:
        """Note a change: wake those who wait for it, and note when something is due."""
        with self._news:
            if len(self._subscribers):
                self._push(0, name)
            if now is not None:
                self._note(name, before, now)
            elif before is not None:
                self._ended.add(before.name)
                if ReservationId(before.name) in self._subscribers.ids():
                    self._gone[name] = before
                    self._push(0, name)
            for changed in self._waiting.get(name, ()):
                changed.set()

    def _note(self, name: str, before: Claim | None, now: Claim) -> None:
        due = objects.due_at(now, to_us(self._clock()), self._ahead)
        if due is not None:
            self._push(due, name)
        if now.reserved and (before is None or not before.reserved):
            known = self._mirror.ready.is_set()  # what was there before us is looked up at once
            heapq.heappush(self._checks, (time.monotonic() + _CHECK_S * known, name))

    def _push(self, moment: int, name: str) -> None:
        heapq.heappush(self._due, (moment, next(self._numbers), name))
        if self._due[0][0] == moment:  # the worker has to look sooner than it thought
            self._news.notify_all()

    # ------------------------------------------------------------ the worker's thread

    def _work(self) -> None:
        while (due := self._next()) is not None:
            name, attend = due
            try:
                attend(name)
            except (ConflictError, NotFoundError):
                continue  # somebody was first: the mirror brings what it came to
            except GangplanError as error:
                _log.warning("%s: is tried again: %s", name, error)
                with self._news:
                    self._push(to_us(self._clock()) + int(_AGAIN_S * SECOND * random.uniform(1, 2)), name)
                time.sleep(_AGAIN_S)

    def _next(self) -> tuple[str, Callable[[str], None]] | None:
        """Wait until something is due; None at the end."""
        with self._news:
            while not self._closed:
                now = to_us(self._clock())
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[2], self._attend
                if self._learned and self._mirror.steady not in (0, self._learned):
                    return "", lambda _: self.learn()
                if self._checks and self._checks[0][0] <= time.monotonic():
                    return heapq.heappop(self._checks)[1], self._check
                left = (self._due[0][0] - now) / SECOND if self._due else _LOOK_S
                self._news.wait(min(left, _LOOK_S))
            return None

    def _attend(self, name: str) -> None:
        """Do what is due about a reservation, then tell how it stands."""
        claim = self._mirror.there.get(name)
        if claim is not None:
            self._tell(self.settle(claim, ready=True))
        elif (last := self._gone.get(name)) is not None:
            self._tell(self._pen.records.of(last.name) or _deleted(last, to_us(self._clock())))
            del self._gone[name]

    def _check(self, name: str) -> None:
        """Delete the Workload of a reservation that has a record of its end, so that its quota is free."""
        claim = self._mirror.there.get(name)
        if claim is None or not claim.reserved:
            return
        over = self._pen.records.of(claim.name)
        if over is not None and over_already(claim, over):
            self._pen.delete(claim)
            self._tell(over)
            return
        with self._news:
            heapq.heappush(self._checks, (time.monotonic() + _CHECK_S, name))

    def _tell(self, claim: Claim) -> None:
        if ReservationId(claim.name) in self._subscribers.ids():
            self._subscribers.tell(self._show(claim))

    def settle(self, claim: Claim, *, ready: bool = False) -> Claim:
        """Do what is due about a reservation, and return what it came to; the moment is the clock's.

        With `ready` this includes that its pods are said to be ready, which can wait for the worker.
        """
        moment = self._clock()
        now = to_us(moment)
        due = objects.due_at(claim, now, self._ahead)
        if due is None:
            return claim
        if due > now:
            with self._news:
                self._push(due, claim.key)
            return claim
        return self._act(claim, now, ready)

    def _act(self, claim: Claim, now: int, ready: bool) -> Claim:
        moment = from_us(now)
        request = request_from_text(claim.request)
        if objects.over_by_kueue(claim):
            return self._remember(claim)
        if claim.end:
            return self._pen.finish(claim)
        if objects.ended_by_time(claim):
            return self._pen.end(claim, objects.EXPIRED, moment)
        if claim.evicted:
            return self._complete(claim, now)
        if claim.safe:
            lease = objects.lease_of(claim, request)
            if lease is not None and lease.end <= now:
                return self._pen.end(claim, objects.EXPIRED, moment)
            return self._pen.ready(claim, moment) if ready else claim
        latest = last_start(request, span_us(request.limit))
        if latest is not None and latest < now and not claim.evictions:
            return self._pen.end(claim, objects.EXPIRED, moment)
        return self._pen.queue(claim) if not claim.queue else claim

    def _remember(self, claim: Claim) -> Claim:
        """Record how what a Job had adopted ended: its Workload goes with the Job."""
        if claim.uid not in self._recorded:
            if self._pen.records.of(claim.name) is None:
                self._pen.records.add(replace(claim, end=objects.end_of(claim)))
            self._recorded.add(claim.uid)
        return claim

    def _complete(self, claim: Claim, now: int) -> Claim:
        """Complete an eviction: a preempted gang is over, one that lost its place to an outage waits again.

        Kueue completes those of Jobs by itself. A gang that waits again gets a token that is greater by at least one,
        which the clock of whole seconds gives only when the grant is a second old, and one more for each takeover.
        """
        if claim.owner:
            return claim
        if objects.preempted(claim):
            return self._pen.end(claim, objects.PREEMPTED, from_us(now))
        old_enough = claim.marks["QuotaReserved"].since + SECOND * (1 + claim.takeovers)
        if now < old_enough:
            with self._news:
                self._push(old_enough, claim.key)
            return claim
        return self._pen.requeue(claim, from_us(now))


def revived(claim: Claim, over: Claim | None) -> bool:
    """Tell whether a Workload was made anew for what is over."""
    return over is not None and over.uid != claim.uid


def over_already(claim: Claim, over: Claim) -> bool:
    """Tell whether a Workload is the rest of what is over: made anew by who did not know, or released by who died."""
    return revived(claim, over) or (not claim.owner and (claim.token, claim.lease) == (over.token, over.lease))


def _deleted(last: Claim, now: int) -> Claim:
    """Return what somebody deleted although it was not over: whoever waits for it hears that it was cancelled."""
    return replace(last, end=f"{objects.CANCELLED}:{now}")
