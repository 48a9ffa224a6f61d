"""What a controller does again and again: when it is woken, after a period at the latest, and later after trouble."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event, Thread

from gangplan.errors import GangplanError

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_LONGEST_REST_S = 2.0


class Round:
    """One piece of work in a thread of its own, so that nothing else is held up by it; only who leads does it.

    However often it is woken, `least_s` lie between two rounds. After a longer round comes a rest as long as it took,
    but of 2 s at most: a round that takes long has much to do. `failed` hears of each failure. One that nobody foresaw
    is logged whole; the next round comes all the same.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        *,
        every_s: float,
        least_s: float = 0.0,
        leads: Callable[[], bool],
        failed: Callable[[str], None],
    ) -> None:
        self.name, self.every_s, self._least_s = name, every_s, least_s
        self.done_at = time.monotonic()
        self._work, self._leads, self._failed = work, leads, failed
        self._woken, self._stop = Event(), Event()
        self._failures = 0
        self._due = 0.0
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def once(self) -> None:
        """Do the work once, here and now."""
        self._work()

    def wake(self) -> None:
        """Let the next round come now, or at once after the present one; after a failure its pause counts."""
        self._woken.set()

    def come_again(self, seconds: float) -> None:
        """Let a round come after so many seconds at the latest; the work says so itself, where time must pass."""
        self._due = time.monotonic() + seconds

    def stop(self) -> None:
        """Let no further round come."""
        self._stop.set()
        self._woken.set()

    def join(self, seconds: float) -> bool:
        """Wait for the present round to end; tell whether it has."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def stuck(self) -> bool:
        """Whether no round has ended for far longer than the longest pause between two."""
        return time.monotonic() - self.done_at > 10 * (self.every_s + _LONGEST_PAUSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()  # what happens from here on is for the next round
            began = time.monotonic()
            if self._leads():
                self._attempt()
            self.done_at = time.monotonic()
            self._pause()
            if self._least_s:
                rest = max(self._least_s, min(self.done_at - began, _LONGEST_REST_S))
                self._stop.wait(rest - (time.monotonic() - self.done_at))

    def _attempt(self) -> None:
        try:
            self.once()
        except GangplanError as error:
            _log.warning("%s: %s", self.name, error)
            self._fail()
        except Exception:  # noqa: BLE001 - what nobody foresaw must not end the other work of this process
            _log.exception("%s: failed", self.name)
            self._fail()
        else:
            self._failures = 0

    def _fail(self) -> None:
        self._failures += 1
        self._failed(self.name)

    def _pause(self) -> None:
        if self._failures:
            pause = min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)
            self._stop.wait(pause * random.uniform(0.5, 1.5))
        else:
            due = self._due - time.monotonic()
            usual = self.every_s * random.uniform(0.9, 1.1)
            self._woken.wait(min(due, usual) if due > 0 else usual)
