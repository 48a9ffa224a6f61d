"""What is expected of a queue: who waits for whom, when a gang will fit, what is free when. It only reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from gangplan.clock import Clock, from_us, require_utc, span_us, to_us
from gangplan.errors import InputError
from gangplan.kube import Api, Claim, claim_from
from gangplan.reserve.codec import request_of
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.calendar import Calendar, Wish, holds_of, line_of
from gangplan.reserve.kueue.objects import View, refuse
from gangplan.types import FreeCapacity, GangRequest, Limit, Reason

_LINE_S = 2.0
"""Seconds for which expected starts are used before the line is read again."""


class Outlook:
    """Our own calendar over all Workloads of a queue's cohort, as Kueue has none."""

    def __init__(self, api: Api, namespace: str, clock: Clock, view: Callable[[], View]) -> None:
        self._api, self._namespace, self._clock, self._view = api, namespace, clock, view
        self._line: tuple[dict[str, int | None], float] = ({}, 0.0)

    def forget(self) -> None:
        """Look at the line anew next time: it was changed."""
        self._line = {}, 0.0

    def starts(self, key: str) -> int | None:
        """Return when one of the cohort's line is expected to start, as seen a moment ago; a newcomer is looked at."""
        starts, until = self._line
        if time.monotonic() >= until or key not in starts:
            calendar, line = self._calendar()
            starts = dict.fromkeys(wish.name for wish in line) | calendar.take(line)
            self._line = starts, time.monotonic() + _LINE_S
        return starts.get(key)

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

    def holders(self, claim: Claim) -> tuple[str, ...]:
        """Return those who hold what a request could use, the first to go first."""
        request = request_of(claim.request)
        fitting = {flavor.name for flavor in self._view().fitting(request.accelerators)}
        calendar, _ = self._calendar()
        holds = sorted((hold for hold in calendar.holds if hold.flavor in fitting), key=lambda hold: hold.end)
        return tuple(dict.fromkeys(hold.name.removeprefix(f"{self._namespace}/") for hold in holds))

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
