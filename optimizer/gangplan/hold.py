"""Keep a granted reservation while the work runs: its lease is renewed in a thread until the block ends.

with hold(ledger, reservation.id, token) as held:
    for batch in batches:
        held.check()
        train(batch)
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from gangplan.clock import Clock, system_clock
from gangplan.errors import Refusal, StaleTokenError, UnavailableError
from gangplan.types import ReservationId, Token

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

SHARE = 1 / 3
"""A lease is renewed when this share of its time has passed, so that two renewals may fail before it ends."""

LEAST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 60.0


class Held:
    """A lease that is being kept. Its holder asks `check` between steps, or looks at `lost`."""

    def __init__(
        self, ledger: Ledger, reservation_id: ReservationId, token: Token, *, ttl: timedelta | None, clock: Clock
    ) -> None:
        self.reservation_id = reservation_id
        self.token = token
        self.lost = threading.Event()
        self._ledger = ledger
        self._ttl = ttl
        self._clock = clock
        self._stop = threading.Event()
        self._why = ""
        self._renew()
        self._thread = threading.Thread(target=self._keep, name=f"hold {reservation_id}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise StaleTokenError when the lease was lost: another gang may have the slots, so the work must stop."""
        if self.lost.is_set():
            raise StaleTokenError(f"reservation {self.reservation_id}: the lease was lost, stop the work: {self._why}")

    def close(self) -> None:
        """Stop renewing; the lease itself stays until it is released or ends."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        """Renew until stopped, or until the lease is lost."""
        while not self._stop.wait(self._pause()):
            try:
                self._renew()
            except Refusal as error:
                self._lose(str(error))
                return
            except UnavailableError as error:  # the ledger may come back before the lease ends
                if self._clock() >= self._expires_at:
                    self._lose(str(error))
                    return

    def _renew(self) -> None:
        """Renew once and note the new end."""
        reservation = self._ledger.renew(self.reservation_id, self.token, self._ttl)
        self._expires_at = reservation.expires_at or self._clock()

    def _pause(self) -> float:
        """Return the seconds until the next renewal."""
        left = (self._expires_at - self._clock()).total_seconds()
        return min(max(left * SHARE, LEAST_PAUSE_S), LONGEST_PAUSE_S)

    def _lose(self, why: str) -> None:
        """Note that the lease is gone."""
        self._why = why
        self.lost.set()


@contextmanager
def hold(
    ledger: Ledger,
    reservation_id: ReservationId,
    token: Token,
    *,
    ttl: timedelta | None = None,
    clock: Clock = system_clock,
) -> Generator[Held]:
    """Keep a granted reservation's lease while the block runs; the ledger is called from a second thread.

    `ttl` is how long each renewal lasts (default: the request's duration). Raises StaleTokenError before the block when
    the token is no longer the reservation's, and after it when the lease was lost meanwhile.
    """
    held = Held(ledger, reservation_id, token, ttl=ttl, clock=clock)
    try:
        yield held
    finally:
        held.close()
    held.check()
