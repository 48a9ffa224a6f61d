"""One thread for each open ledger, while somebody waits: it looks for news and tells those whom they are about."""

from __future__ import annotations

import logging
import time
from threading import Lock, Thread, current_thread
from typing import Protocol

from gangplan.errors import GangplanError
from gangplan.reserve.stores.wakes import Wake

_log = logging.getLogger(__name__)

_STAY = 2.0
"""Seconds for which the thread stays with nothing to do; the next one who waits then needs no new one."""

_AFTER_TROUBLE = 0.25


class Polled(Protocol):
    """What has something to look for."""

    def step(self) -> float | None:
        """Look once, and do what is to be done; return the seconds to the next time, or None if nobody waits."""
        ...

    def trouble(self, error: BaseException) -> None:
        """Take in that a look failed."""
        ...


class Poller:
    """Runs `step` again and again in a thread of its own, which ends by itself when nobody waits."""

    def __init__(self, polled: Polled, wake: Wake, name: str) -> None:
        self._polled = polled
        self._wake = wake
        self._name = name
        self._gate = Lock()
        self._thread: Thread | None = None
        self._wanted = 0  # grows with every `need`, so that the thread does not end on one
        self._closed = False

    def need(self) -> None:
        """See to it that the thread runs, and looks soon."""
        with self._gate:
            self._wanted += 1
            if self._thread is None and not self._closed:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wake.stir()

    def close(self) -> None:
        """Let the thread end, and wait for it."""
        with self._gate:
            self._closed, thread = True, self._thread
        self._wake.stir()
        if thread is not None and thread is not current_thread():
            thread.join()
        self._wake.close()

    def _run(self) -> None:
        """Look until nobody waits any more."""
        try:
            idle_since = None
            while not self._closed:
                wanted = self._wanted
                pause = self._look()
                idle_since = None if pause is not None else (idle_since or time.monotonic())
                if idle_since and time.monotonic() - idle_since > _STAY and self._ends(wanted):
                    return
                self._wake.wait(_STAY if pause is None else pause)
        except BaseException as error:
            self._polled.trouble(error)
            raise

    def _look(self) -> float | None:
        """Look once; a store that cannot be reached is asked again."""
        try:
            return self._polled.step()
        except GangplanError as error:
            _log.debug("%s", error)
            self._polled.trouble(error)
            time.sleep(_AFTER_TROUBLE)
            return 0.0

    def _ends(self, wanted: int) -> bool:
        """End, unless somebody came in between."""
        with self._gate:
            if self._wanted != wanted:
                return False
            self._thread = None
            return True
