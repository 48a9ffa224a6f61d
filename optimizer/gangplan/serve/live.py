"""The ledger as all viewers see it: one open ledger, and at most one query a second for all of them together.

The first look reads everything. After that each second reads one thing, the one that is most overdue: mostly the
reservations, now and then the capacity, the rules or the nodes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, TypeVar

from gangplan.clock import Clock
from gangplan.errors import GangplanError, UnsupportedError
from gangplan.reserve import OperableLedger, Policy, open_ledger
from gangplan.types import FreeCapacity, NodeState, Reservation, ReservationId, ReservationState

T = TypeVar("T")

BEHIND = timedelta(hours=6)
"""So far back ended reservations are shown."""

AHEAD = timedelta(days=14)
EVERY_S = 1.0
_URL_S = 15.0
"""After so many seconds the ledger's URL is asked for again: somebody may have changed the connection."""

STREAM_S = 600.0
"""A stream of events ends after so many seconds; the browser comes back, and must show again who it is."""

_BEAT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class View:
    """The ledger at `at`. `change` grows whenever something differs; `policy` is None where the ledger keeps none."""

    at: datetime
    change: int = 0
    reservations: tuple[Reservation, ...] = ()
    free: tuple[FreeCapacity, ...] = ()
    policy: Policy | None = None
    nodes: Mapping[str, NodeState]
    trouble: str = ""

    @property
    def waiting(self) -> list[Reservation]:
        """Those in line, by expected start; those without one come last."""
        line = [each for each in self.reservations if each.state.waits]
        return sorted(line, key=lambda each: (each.eta is None, each.eta or each.submitted_at, each.submitted_at))

    @property
    def holding(self) -> list[Reservation]:
        """Those that hold slots, by the end of their lease."""
        held = [each for each in self.reservations if each.state is ReservationState.GRANTED]
        return sorted(held, key=lambda each: (each.expires_at or self.at, each.id))


class Live:
    """Keeps the newest view of the ledger at a URL; any thread may ask."""

    def __init__(
        self, ledger_url: Callable[[], str], clock: Clock, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger_url, self._clock, self._monotonic = ledger_url, clock, monotonic
        self._ledger: OperableLedger | None = None
        self._url, self._url_at = "", float("-inf")
        self._looked = float("-inf")
        self._read_at = dict.fromkeys(_READS, float("-inf"))
        self._parts: dict[str, Any] = {}
        self._view: View | None = None
        self._lock = Lock()

    def view(self) -> View:
        """Return a view of the ledger that is about a second old at most; while it is read anew, the one before."""
        fresh = self.fresh()
        if fresh is not None:
            return fresh
        if not self._lock.acquire(blocking=self._view is None):
            assert self._view is not None  # noqa: S101  or the call would have waited
            return self._view
        try:
            return self.fresh() or self._look()
        finally:
            self._lock.release()

    def fresh(self) -> View | None:
        """Return the view, if it need not be read anew."""
        return self._view if self._monotonic() - self._looked < EVERY_S else None

    def ask(self, work: Callable[[OperableLedger], T]) -> T:
        """Do something else with the ledger: in its turn, so that all viewers' queries together keep their pace."""
        with self._lock:
            time.sleep(max(0.0, self._looked + EVERY_S - self._monotonic()))
            self._looked = self._monotonic()
            return work(self._opened())

    def act(self, work: Callable[[OperableLedger], T]) -> T:
        """Change something; the next view shows it."""
        with self._lock:
            result = work(self._opened())
            self._read_at["reservations"] = self._looked = float("-inf")
            return result

    async def changes(self) -> AsyncIterator[str]:
        """Yield server-sent events: one for each change, and a comment now and then that keeps proxies awake."""
        told, beat, end = -1, self._monotonic(), self._monotonic() + STREAM_S
        yield "retry: 3000\n\n"
        while self._monotonic() < end:
            view = self.fresh() or await asyncio.to_thread(self.view)
            if view.change != told:
                told = view.change
                yield f"event: change\ndata: {told}\n\n"
            elif self._monotonic() - beat > _BEAT_S:
                beat = self._monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(EVERY_S)

    def close(self) -> None:
        """Close the ledger."""
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

    def _look(self) -> View:
        """Read what is due; where the ledger does not answer, say so beside what was seen last."""
        before, now = self._view, self._clock()
        self._looked = self._monotonic()
        try:
            differs = self._read(now)
        except GangplanError as error:
            if before is None:
                raise
            self._view = replace(before, trouble=str(error), change=before.change + (not before.trouble))
            return self._view
        change = 0 if before is None else before.change + (differs or bool(before.trouble))
        self._view = View(at=now, change=change, **self._shown())
        return self._view

    def _read(self, now: datetime) -> bool:
        """Read everything at first, later what is most overdue; tell whether it differs."""
        ledger = self._opened()
        at = self._monotonic()
        overdue = max(_READS, key=lambda name: (at - self._read_at[name]) / _READS[name][0])
        wanted = [name for name in _READS if name not in self._parts] or [overdue]
        differs = False
        for name in wanted:
            value = _READS[name][1](ledger, now)
            differs |= self._parts.get(name) != value
            self._parts[name], self._read_at[name] = value, at
        return differs

    def _shown(self) -> dict[str, Any]:
        """Put the parts together: who waits has the reason, and the start where none is promised, of the last look."""
        line: dict[ReservationId, Reservation] = self._parts["line"]
        reservations = tuple(
            _as_in_line(row, line[row.id]) if row.state.waits and row.id in line else row
            for row in self._parts["reservations"]
        )
        return {"reservations": reservations, **{name: self._parts[name] for name in ("free", "policy", "nodes")}}

    def _opened(self) -> OperableLedger:
        """Return the ledger, opened anew where its URL has changed."""
        if self._ledger is not None and self._monotonic() - self._url_at < _URL_S:
            return self._ledger
        url, self._url_at = self._ledger_url(), self._monotonic()
        if self._ledger is None or url != self._url:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
                self._parts.clear()
            self._ledger, self._url = open_ledger(url, clock=self._clock), url
        return self._ledger


def _as_in_line(row: Reservation, seen: Reservation) -> Reservation:
    start = row if row.eta is not None else seen
    return replace(row, reason=seen.reason, eta=start.eta, eta_range=start.eta_range)


def _policy(ledger: OperableLedger, _: datetime) -> Policy | None:
    try:
        return ledger.policy()
    except UnsupportedError:  # on Kueue the quotas are those of its ClusterQueues
        return None


def _nodes(ledger: OperableLedger, _: datetime) -> dict[str, NodeState]:
    try:
        return ledger.nodes()
    except UnsupportedError:
        return {}


def _line(ledger: OperableLedger, _: datetime) -> dict[ReservationId, Reservation]:
    return {row.id: row for row in ledger.list(ReservationState.WAITING)}


_READS: dict[str, tuple[float, Callable[[OperableLedger, datetime], Any]]] = {
    "reservations": (1.0, lambda ledger, now: ledger.history(since=now - BEHIND)),
    "line": (5.0, _line),
    "free": (10.0, lambda ledger, now: ledger.calendar(now - BEHIND, now + AHEAD)),
    "nodes": (15.0, _nodes),
    "policy": (30.0, _policy),
}
"""What is read of the ledger: how many seconds old it may grow, and how it is read."""
