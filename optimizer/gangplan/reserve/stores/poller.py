"""One background thread for each open ledger while somebody waits: it looks for changes and tells those who wait."""

from __future__ import annotations

import logging
import time
from threading import Lock, Thread, current_thread
from typing import Protocol

from gangplan.errors import GangplanError
from gangplan.reserve.stores.wakeups import Wakeup

_log = logging.getLogger(__name__)

_STAY = 2.0
"""Seconds for which the thread lives on with nothing to do, so that the next one who waits needs no new thread."""

_AFTER_ERROR = 0.25
"""Seconds before the next look after one that failed."""


class Polled(Protocol):
    """A store that the poller looks after."""

    def step(self) -> float | None:
        """Look once and do what is due; return the seconds to the next look, or None if nobody waits."""
        ...

    def failed(self, error: BaseException) -> None:
        """Note that a look failed."""
        ...


class Poller:
    """Runs `step` again and again in a thread of its own, which ends by itself when nobody waits."""

    def __init__(self, polled: Polled, wakeup: Wakeup, name: str) -> None:
        self._polled = polled
        self._wakeup = wakeup
        self._name = name
        self._gate = Lock()
        self._thread: Thread | None = None
        self._needs = 0  # counts the calls of `need`, so that the thread does not end just after one
        self._closed = False

    def need(self) -> None:
        """Start the thread if it does not run, and let it look soon."""
        with self._gate:
            self._needs += 1
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wakeup.notify()

    def close(self) -> None:
        """End the thread, and wait for its end."""
        with self._gate:
            self._closed, thread = True, self._thread
        self._wakeup.notify()
        if thread is not None and thread is not current_thread():
            thread.join()
        self._wakeup.close()

    def _run(self) -> None:
        """Look until nobody waits any more."""
        try:
            idle_since = None
            while not self._closed:
                needs = self._needs
                pause = self._look()
                idle_since = None if pause is not None else (idle_since or time.monotonic())
                if idle_since and time.monotonic() - idle_since > _STAY and self._ends(needs):
                    return
                self._wakeup.wait(_STAY if pause is None else pause)
        except BaseException as error:
            self._polled.failed(error)
            raise

    def _look(self) -> float | None:
        """Look once; a store that cannot be reached is asked again later."""
        try:
            return self._polled.step()
        except GangplanError as error:
            _log.debug("%s", error)
            self._polled.failed(error)
            time.sleep(_AFTER_ERROR)
            return 0.0

    def _ends(self, needs: int) -> bool:
        """End the thread, unless somebody has called `need` in the meantime."""
        with self._gate:
            if self._needs != needs:
                return False
            self._wakeup.rest()
            self._thread = None
            return True
