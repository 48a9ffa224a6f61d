"""Waiting on a ledger, by subscription or by polling; the same for all kinds of ledgers."""

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

Next = Callable[[timedelta], Reservation | None]
"""Waits up to a time for the next state of a reservation; None where nothing came."""

_LONG = timedelta(seconds=30)
"""How long a wait trusts its subscription before it asks the ledger itself."""


class WaitingLedger(ABC):
    """The part of a `Ledger` that waits, and its use in a `with`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @abstractmethod
    def _present(self, id: ReservationId) -> Reservation:
        """Return a reservation after what was due; an expected start, and why it waits, need not be in it."""

    def _explained(self, reservation: Reservation) -> Reservation:
        """Return a reservation with the reason why it waits."""
        return reservation

    @abstractmethod
    def _subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Tell `callback` how a reservation stands, and every change of it."""

    @abstractmethod
    def close(self) -> None:
        """See `Ledger.close`."""

    def wait(
        self, id: ReservationId, *, timeout: timedelta, poll: timedelta = POLL, sleep: Sleep = time.sleep
    ) -> Reservation:
        """See `Ledger.wait`."""
        require_type("timeout", timeout, timedelta, "a timedelta")
        deadline = self._clock() + timeout
        with self._changes(id, poll, sleep) as next_change:
            reservation = self._present(id)
            while reservation.state.waits:
                left = deadline - self._clock()
                if left <= timedelta(0):
                    raise WaitTimeoutError(_still_waits(self._explained(reservation), timeout))
                reservation = next_change(left) or self._present(id)
        return reservation

    def watch(self, id: ReservationId, *, poll: timedelta = POLL, sleep: Sleep = time.sleep) -> Iterator[Reservation]:
        """See `Ledger.watch`."""
        with self._changes(id, poll, sleep) as next_change:
            previous = reservation = self._present(id)
            yield self._explained(reservation)
            while not previous.state.final:
                reservation = next_change(_LONG) or self._present(id)
                if self._differs(reservation, previous):
                    yield self._explained(reservation)
                previous = reservation

    def _differs(self, reservation: Reservation, previous: Reservation) -> bool:
        """Tell whether a state is another one for whoever watches; that others hold what it waits for is none."""
        return replace(reservation, reason=None) != replace(previous, reason=None)

    @contextmanager
    def _changes(self, id: ReservationId, poll: timedelta, sleep: Sleep) -> Generator[Next]:
        """Return how to wait for the next change of a reservation: by subscription, or by the sleep that was given."""
        if sleep is not time.sleep:
            yield lambda left: sleep(min(left, poll).total_seconds())
            return
        # A clock that is not the machine's may be moved while nothing else happens: it is read more often.
        longest = _LONG if self._clock is system_clock else poll
        changes: SimpleQueue[Reservation] = SimpleQueue()
        unsubscribe = self._subscribe(id, changes.put)

        def next_change(left: timedelta) -> Reservation | None:
            try:
                return changes.get(timeout=min(left, longest).total_seconds())
            except Empty:
                return None

        try:
            yield next_change
        finally:
            unsubscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _still_waits(reservation: Reservation, timeout: timedelta) -> str:
    """Say in one line that a request still waits, and why."""
    why = f": {reservation.reason.message}" if reservation.reason else ""
    return f"timeout: {reservation.request.request_key!r} still waits after {timeout.total_seconds():g} s{why}"
