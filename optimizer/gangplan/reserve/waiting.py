"""Waiting on a ledger, told of changes or by looking again: alike whatever the rows are kept in."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Self

from gangplan.clock import Clock, system_clock
from gangplan.errors import WaitTimeoutError
from gangplan.reserve.contract import POLL, Sleep
from gangplan.reserve.subscribers import Callback, Unsubscribe
from gangplan.types import Reservation, ReservationId, require_type

Look = Callable[[timedelta], Reservation | None]

_LONG = timedelta(seconds=30)
"""A wait that nothing ended looks for itself after so long."""


class WaitingLedger(ABC):
    """The part of a `Ledger` that waits, and its use in a `with`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @abstractmethod
    def _stands(self, id: ReservationId) -> Reservation:
        """Return a reservation as it stands, after what was due; what is expected of it need not be there."""

    @abstractmethod
    def _told(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Let `callback` hear how a reservation stands, and every change of it."""

    @abstractmethod
    def close(self) -> None:
        """See `Ledger.close`."""

    def wait(
        self, id: ReservationId, *, timeout: timedelta, poll: timedelta = POLL, sleep: Sleep = time.sleep
    ) -> Reservation:
        """See `Ledger.wait`."""
        require_type("timeout", timeout, timedelta, "a timedelta")
        deadline = self._clock() + timeout
        with self._seen(id, poll, sleep) as look:
            seen = self._stands(id)
            while seen.state.waits:
                left = deadline - self._clock()
                if left <= timedelta(0):
                    raise WaitTimeoutError(_waited(seen, timeout))
                seen = look(left) or self._stands(id)
        return seen

    def watch(self, id: ReservationId, *, poll: timedelta = POLL, sleep: Sleep = time.sleep) -> Iterator[Reservation]:
        """See `Ledger.watch`."""
        with self._seen(id, poll, sleep) as look:
            last = seen = self._stands(id)
            yield seen
            while not last.state.final:
                seen = look(_LONG) or self._stands(id)
                if self._differs(seen, last):
                    yield seen
                last = seen

    def _differs(self, seen: Reservation, last: Reservation) -> bool:
        """Tell whether a picture is worth telling after another one."""
        return seen != last

    @contextmanager
    def _seen(self, id: ReservationId, poll: timedelta, sleep: Sleep) -> Generator[Look]:
        """Return how to wait for the next picture of a reservation: told of it, or by sleeps that were given.

        A look returns None where nothing came; the ledger is then to be asked.
        """
        if sleep is not time.sleep:
            yield lambda left: sleep(min(left, poll).total_seconds())
            return
        # A clock that is not the machine's may be moved while nothing else happens: it is looked at more often.
        longest = _LONG if self._clock is system_clock else poll
        news: SimpleQueue[Reservation] = SimpleQueue()
        unsubscribe = self._told(id, news.put)

        def look(left: timedelta) -> Reservation | None:
            try:
                return news.get(timeout=min(left, longest).total_seconds())
            except Empty:
                return None

        try:
            yield look
        finally:
            unsubscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def but_for_eta(reservation: Reservation) -> Reservation:
    """Return a picture without its expected start, which alone is no change."""
    return replace(reservation, eta=None)


def _waited(seen: Reservation, timeout: timedelta) -> str:
    """Say in one line what did not come, and why."""
    why = f": {seen.reason.message}" if seen.reason else ""
    return f"timeout: {seen.request.request_key!r} still waits after {timeout.total_seconds():g} s{why}"
