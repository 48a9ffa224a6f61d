"""Hold a granted reservation while the work runs: a thread renews its lease until the block ends.

with hold(ledger, reservation.id, token) as held:
    for batch in batches:
        held.check()
        train(batch)
        if held.notice:
            save()
            break
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.errors import Refusal, StaleTokenError, UnavailableError
from gangplan.types import Notice, Reservation, ReservationId, ReservationState, Token

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

SHARE = 1 / 3
"""A lease is renewed after this share of its time, so that two renewals may fail before it ends."""

LEAST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 60.0

CLOSE_S = 2.0
"""Seconds that the end of the work waits for a renewal: a ledger that is away may never answer it."""


class Held:
    """A lease that is being renewed. Its holder calls `check` between steps, or reads `lost` and `notice`."""

    def __init__(
        self, ledger: Ledger, reservation_id: ReservationId, token: Token, *, ttl: timedelta | None, clock: Clock
    ) -> None:
        self.reservation_id = reservation_id
        self.token = token
        self.lost = threading.Event()
        self._ledger = ledger
        self._ttl = ttl
        self._clock = clock
        self._told_at: datetime | None = None
        self._stop = threading.Event()
        self._why = ""
        self._seen = self._renew()
        self._thread = threading.Thread(target=self._keep, name=f"hold {reservation_id}", daemon=True)
        self._thread.start()

    @property
    def notice(self) -> Notice | None:
        """Until when the slots may be used, why, and who gets them next; None without such a notice.

        It is as old as the last renewal: at most a minute, and at most half of the request's `checkpoint`. A notice
        that is withdrawn becomes None again.
        """
        return self._seen.notice

    @property
    def reservation(self) -> Reservation:
        """The reservation as of the last renewal."""
        return self._seen

    @property
    def left(self) -> timedelta:
        """How long the slots may still be used, as of the last renewal that came through."""
        return self._end() - self._clock()

    @property
    def term(self) -> timedelta:
        """How long each renewal lasts."""
        return self._seen.request.duration if self._ttl is None else self._ttl

    @property
    def ttl(self) -> timedelta | None:
        """How long the next renewal lasts; None for the request's duration."""
        if self._ttl is None or self._told_at is None:
            return self._ttl
        return max(self._ttl - (self._clock() - self._told_at), self._ttl / 2)

    def told_to_end(self) -> None:
        """Renew for what is left of one renewal's time from now, and for half of it at least: the work is to end.

        So the slots of work that takes all of its time to end, and is then killed, are free a little later.
        """
        self._told_at = self._told_at or self._clock()

    def check(self) -> None:
        """Raise StaleTokenError if the lease was lost: another gang may use the slots, so the work must stop."""
        if self.lost.is_set():
            raise StaleTokenError(f"reservation {self.reservation_id}: the lease was lost, stop the work: {self._why}")

    def close(self) -> None:
        """Stop renewing; the lease itself lasts until it is released or ends."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _keep(self) -> None:
        """Renew until stopped, or until the lease is lost."""
        while not self._stop.wait(self._pause()):
            try:
                self._seen = self._renew()
            except Refusal as error:
                self._lose(self._why_lost(error))
                return
            except UnavailableError as error:  # the ledger may answer again before the lease ends
                if self._clock() >= self._end():
                    self._lose(str(error))
                    return

    def _renew(self) -> Reservation:
        """Renew once, and return the reservation."""
        return self._ledger.renew(self.reservation_id, self.token, self.ttl)

    def _end(self) -> datetime:
        """Return the end of the lease as of the last renewal."""
        assert self._seen.expires_at is not None  # noqa: S101 (a renewed reservation has a lease)
        return self._seen.expires_at

    def _pause(self) -> float:
        """Return the seconds until the next renewal."""
        checkpoint = self._seen.request.checkpoint
        longest = LONGEST_PAUSE_S if checkpoint is None else min(LONGEST_PAUSE_S, checkpoint.total_seconds() / 2)
        left = (self._end() - self._clock()).total_seconds()
        return max(min(left * SHARE, longest), LEAST_PAUSE_S)

    def _why_lost(self, refusal: Refusal) -> str:
        """Return why the lease was lost; the text of the refusal if the ledger does not answer."""
        try:
            return _fate(self._ledger.get(self.reservation_id), self._seen.notice) or str(refusal)
        except (Refusal, UnavailableError):
            return str(refusal)

    def _lose(self, why: str) -> None:
        """Mark the lease as lost."""
        self._why = why
        self.lost.set()


def _fate(now: Reservation, notice: Notice | None) -> str:
    """Return why a holder has lost its slots; an empty text if its token was never the present one."""
    why = f" ({notice.why})" if notice is not None else ""
    if now.state is ReservationState.INTERRUPTED:
        return f"its nodes went away{why}; it waits, ahead of all others, for slots in their place"
    if now.state is ReservationState.GRANTED and now.interruptions:
        nodes = ", ".join(sorted({place.node for place in now.placements}))
        return f"its nodes went away{why}; it was given {nodes} in their place: run the step again to take them up"
    if now.state is ReservationState.PREEMPTED:
        return f"its slots were taken for another gang after notice{why}"
    return f"it was {now.state}" if now.state.final else ""


@contextmanager
def hold(
    ledger: Ledger,
    reservation_id: ReservationId,
    token: Token,
    *,
    ttl: timedelta | None = None,
    clock: Clock | None = None,
) -> Generator[Held]:
    """Renew a granted reservation's lease while the block runs, from a second thread.

    Parameters
    ----------
    ttl
        How long each renewal lasts; by default the request's duration.
    clock
        By default that of the settings.

    Raises
    ------
    StaleTokenError
        Before the block if the token is no longer the reservation's, after it if the lease was lost meanwhile.
    """
    held = Held(ledger, reservation_id, token, ttl=ttl, clock=clock or load_settings().clock)
    try:
        yield held
    finally:
        held.close()
    held.check()
