"""How long the GPUs of each flavor are held, who waits for whom, and when a gang will fit; nothing is written.

Kueue has no calendar, so this one is ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from gangplan.clock import FOREVER, SECOND, Clock, from_us, require_utc, span_us, to_us
from gangplan.errors import InputError
from gangplan.kube import Api, Claim, claim_from
from gangplan.reserve.codec import request_from_text
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.objects import View, lease_of, refuse, state_of
from gangplan.types import FreeCapacity, GangRequest, Limit, Reason

_LINE_S = 2.0
"""Seconds for which expected starts are used before the line is read again."""

_SHOWN = 3
"""How many holders are named; a longer list would not be read."""

LONGEST_LINE = 500
"""The most waiting gangs that get an expected start. Raised, a look at a long line takes longer."""


@dataclass(frozen=True, slots=True)
class Hold:
    """GPUs of a flavor that a queue holds, or is expected to hold, from `start` up to `end`."""

    name: str
    queue: str
    flavor: str
    gpus: int
    start: int
    end: int
    who: str = ""  # in words


@dataclass(frozen=True, slots=True)
class Wish:
    """A gang that waits: its queue, the flavors that will do, its GPUs, for how long and from when, and its rank."""

    name: str
    queue: str
    flavors: tuple[str, ...]
    gpus: int
    span: int
    earliest: int
    rank: tuple[int, int]


class Calendar:
    """The holds of a cohort's queues, and what they leave free for one of them."""

    def __init__(self, view: View, holds: Iterable[Hold], now: int) -> None:
        self.view, self.now = view, now
        self.holds = [hold for hold in holds if hold.end > now]
        self._queues = {queue.name: queue for queue in (view.mine, *view.cohort)}

    def free(self, flavor: str, at: int, queue: str = "") -> int:
        """Return what a queue (default: ours) could still get of a flavor at a moment."""
        me = self._queues[queue or self.view.mine.name]
        if flavor not in me.quotas:
            return 0
        used = self._used(flavor, at)
        mine, own = used.get(me.name, 0), me.quotas[flavor]
        if not me.cohort:
            return own.nominal - mine
        total, taken = own.nominal + self.view.cohort_quotas.get(flavor, 0), mine
        for name, other in self._queues.items():
            if name != me.name and flavor in other.quotas:
                quota = other.quotas[flavor]
                total += quota.lends
                taken += max(0, used.get(name, 0) - (quota.nominal - quota.lends))
        together = total - taken
        return together if own.borrow is None else min(together, own.nominal + own.borrow - mine)

    def _used(self, flavor: str, at: int) -> dict[str, int]:
        used: dict[str, int] = {}
        for hold in self.holds:
            if hold.flavor == flavor and hold.start <= at < hold.end:
                used[hold.queue] = used.get(hold.queue, 0) + hold.gpus
        return used

    def start_of(self, wish: Wish) -> tuple[int, str] | None:
        """Return when, and on which flavor, a gang fits first for its whole run; None: not in sight."""
        starts = [(at, flavor) for flavor in wish.flavors if (at := self._start_on(wish, flavor)) is not None]
        return min(starts, key=lambda start: start[0], default=None)

    def _start_on(self, wish: Wish, flavor: str) -> int | None:
        begin = max(self.now, wish.earliest)
        moments = {begin} | {hold.end for hold in self.holds if hold.flavor == flavor and begin < hold.end < FOREVER}
        for at in sorted(moments):
            steps = {at} | {hold.start for hold in self.holds if at < hold.start < at + wish.span}
            if all(self.free(flavor, step, wish.queue) >= wish.gpus for step in steps):
                return at
        return None

    def take(self, line: Sequence[Wish]) -> dict[str, int]:
        """Let each of a line have the first start that leaves those ahead of it theirs; return the starts by name."""
        starts: dict[str, int] = {}
        for wish in sorted(line, key=lambda wish: wish.rank)[:LONGEST_LINE]:
            start = self.start_of(wish)
            if start is not None:
                at, flavor = start
                starts[wish.name] = at
                self.holds.append(Hold(wish.name, wish.queue, flavor, wish.gpus, at, at + wish.span))
        return starts

    def spans(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """Return each flavor's capacity and what of it is held, in stretches in which nothing changes."""
        spans: list[FreeCapacity] = []
        for flavor in self.view.mine.quotas:
            most = self.view.most(flavor)
            edges = {to_us(start), to_us(end)}
            for hold in self.holds:
                edges |= {edge for edge in (hold.start, hold.end) if to_us(start) < edge < to_us(end)}
            ordered = sorted(edges)
            for begin, finish in pairwise(ordered):
                held = most - max(0, self.free(flavor, begin))
                span = FreeCapacity(
                    pool=flavor, start=from_us(begin), end=from_us(finish), planned_gpus=most, held_gpus=held
                )
                if spans and spans[-1].pool == flavor and spans[-1].held_gpus == held:
                    spans[-1] = replace(spans[-1], end=span.end)
                else:
                    spans.append(span)
        return tuple(spans)


def holds_of(claims: Iterable[Claim], now: int) -> list[Hold]:
    """Return what is held now: ours until their hard end, others' until their time limit, or for good."""
    holds: list[Hold] = []
    for claim in claims:
        if claim.reserved and not claim.evicted:
            end, who = _end(claim), claim.key
            if claim.request:
                request = request_from_text(claim.request)
                who = f"{request.tenant} {request.request_key}"
            for share in claim.shares:
                if share.gpus:
                    holds.append(
                        Hold(claim.key, claim.cluster_queue, share.flavor, share.gpus, 0, max(end, now + 1), who)
                    )
    return holds


def _end(claim: Claim) -> int:
    """Return by when it is over at the latest."""
    if claim.request:
        lease = lease_of(claim, request_from_text(claim.request))
        if lease is not None:
            return lease.hard_end
    if claim.limit_s is None or claim.admitted is None:
        return FOREVER
    return claim.admitted + claim.limit_s * SECOND


def line_of(claims: Iterable[Claim], view: View, queues: dict[str, str]) -> list[Wish]:
    """Return what waits in the cohort, with its place in Kueue's line: by priority, then by arrival.

    `queues` gives the ClusterQueue of a namespace's LocalQueue (namespace/name).
    """
    return [wish for claim in claims if (wish := wish_of(claim, view, queues)) is not None]


def wish_of(claim: Claim, view: View, queues: dict[str, str]) -> Wish | None:
    """Return what a Workload that waits wants; None for one that does not."""
    local = claim.queue or claim.our_queue
    queue = queues.get(f"{claim.namespace}/{local}")
    known = {member.name: member for member in (view.mine, *view.cohort)}
    waits = not claim.on("QuotaReserved") and claim.active and not claim.finished and not claim.deleted
    if queue not in known or not waits or state_of(claim).final:
        return None
    flavors, earliest = tuple(known[queue].quotas), 0
    span = FOREVER // 4 if claim.limit_s is None else claim.limit_s * SECOND
    if claim.request:
        request = request_from_text(claim.request)
        flavors = tuple(flavor.name for flavor in view.fitting(request.accelerators)) or flavors
        earliest, span = (to_us(request.earliest_start) if request.earliest_start else 0), span_us(request.limit)
    return Wish(claim.key, queue, flavors, claim.gpus, span, earliest, (-claim.priority, claim.created))


def _until(end: int) -> str:
    return f" until {from_us(end):%Y-%m-%d %H:%M:%SZ}" if end < FOREVER else ""


class Seen(NamedTuple):
    """When each of the cohort's line is expected to start, and what is held, the first to go first."""

    starts: dict[str, int | None]
    holds: tuple[Hold, ...]


class Outlook:
    """Our own calendar over all Workloads of a queue's cohort, as Kueue has none."""

    def __init__(self, api: Api, namespace: str, clock: Clock, view: Callable[[], View]) -> None:
        self._api, self._namespace, self._clock, self._view = api, namespace, clock, view
        self._last: tuple[Seen, float] | None = None

    def forget(self) -> None:
        """Look at the line anew next time: it was changed."""
        self._last = None

    def starts(self, key: str) -> int | None:
        """Return when one of the cohort's line is expected to start, as seen a moment ago; a newcomer is looked at."""
        if key not in self._seen().starts:
            self.forget()
        return self._seen().starts.get(key)

    def _seen(self) -> Seen:
        """Return the cohort as it was a moment ago."""
        if self._last is None or time.monotonic() >= self._last[1]:
            calendar, line = self._calendar()
            holds = tuple(sorted(calendar.holds, key=lambda hold: hold.end))
            starts = dict.fromkeys(wish.name for wish in line) | calendar.take(line)
            self._last = Seen(starts, holds), time.monotonic() + _LINE_S
        return self._last[0]

    def _calendar(self) -> tuple[Calendar, list[Wish]]:
        """Read all Workloads of the cohort: what is held, and the line."""
        view, now = self._view(), to_us(self._clock())
        claims = [claim_from(item) for item in self._api.items(objects.workloads())]
        return Calendar(view, holds_of(claims, now), now), line_of(claims, view, self._queues())

    def _queues(self) -> dict[str, str]:
        """Return the ClusterQueue of every LocalQueue."""
        items = self._api.items(f"{objects.API}/localqueues")
        return {f"{q['metadata']['namespace']}/{q['metadata']['name']}": q["spec"]["clusterQueue"] for q in items}

    def free(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """Return each flavor's capacity and what of it is held."""
        if to_us(require_utc("end", end)) <= to_us(require_utc("start", start)):
            raise InputError("end", end.isoformat(), f"must be later than start {start.isoformat()}")
        calendar, line = self._calendar()
        calendar.take([wish for wish in line if wish.earliest > calendar.now])
        return calendar.spans(start, end)

    def explained(self, request: GangRequest, reason: Reason) -> Reason:
        """Add to a reason of Kueue's those who hold what the request could use now, the first to go first."""
        fitting = {flavor.name for flavor in self._view().fitting(request.accelerators)}
        holds = [hold for hold in self._seen().holds if hold.flavor in fitting]
        holders = tuple(dict.fromkeys(hold.name.removeprefix(f"{self._namespace}/") for hold in holds))
        named = [f"{hold.who} ({hold.gpus} GPUs{_until(hold.end)})" for hold in holds[:_SHOWN]]
        more = " and others" if len(holds) > _SHOWN else ""
        message = f"{reason.message}. Held by: {'; '.join(named)}{more}" if named else reason.message
        return replace(reason, holders=holders, message=message)

    def what_if(self, request: GangRequest) -> tuple[datetime | None, Reason | None]:
        """Return when a request would start if it were submitted now, and why not at once."""
        view = self._view()
        flavors = refuse(request, view)
        calendar, line = self._calendar()
        calendar.take(line)
        wish = Wish(
            name="",
            queue=view.mine.name,
            flavors=tuple(flavor.name for flavor in flavors),
            gpus=request.gpus,
            span=span_us(request.limit),
            earliest=to_us(request.earliest_start) if request.earliest_start else 0,
            rank=(0, 0),
        )
        start = calendar.start_of(wish)
        if start is None:
            most = max(view.most(flavor.name) for flavor in flavors)
            words = f"no start is in sight: the queue may use {most} GPUs of what it asks for {request.gpus} of"
            return None, Reason(limit=Limit.QUOTA if request.gpus > most else Limit.CAPACITY, message=words)
        at = start[0]
        if at <= calendar.now:
            return from_us(at), None
        return from_us(at), Reason(limit=Limit.CAPACITY, message="the GPUs are held by others until then")
