"""Connections to a server that has few: closed while nobody uses them, and waited for where it has none to spare.

A step of a pipeline is a process of its own. It makes a call now and then, for hours; PostgreSQL by default serves a
hundred connections, and hundreds of steps may hold slots at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import Dialect

from gangplan.reserve.stores.wakeups import is_full

IDLE_S, CROWDED_S = 2.0, 0.1
"""Seconds without a call after which a process closes its connections. A new one takes some milliseconds."""

_AGAIN_S, _LONGEST_S = 0.1, 2.0
"""Seconds until a full server is asked again, on average: twice as long after each try, for each try costs it work."""


class IdleConnections:
    """Closes an engine's connections once nobody has used them for a while: a short one where many others want some."""

    def __init__(self, engine: Engine, crowded: Callable[[], bool]) -> None:
        self._engine, self._crowded = engine, crowded
        self._used = 0.0
        self._gate = Lock()
        self._thread: Thread | None = None
        self._closed = Event()
        event.listen(engine, "checkout", self._note)
        event.listen(engine, "checkin", self._note)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _note(self, *_: object) -> None:
        self._used = time.monotonic()
        if self._thread is None and not self._closed.is_set():
            with self._gate:
                if self._thread is None:
                    self._thread = Thread(target=self._watch, name="idle connections", daemon=True)
                    self._thread.start()

    def _watch(self) -> None:
        while not self._closed.wait(self._left()):
            with self._gate:
                if self._left() <= 0:
                    self._thread = None
                    break
        self._engine.dispose()

    def _left(self) -> float:
        """Return the seconds until the connections are idle for long enough."""
        return self._used + (CROWDED_S if self._crowded() else IDLE_S) - time.monotonic()


def wait_for_a_free_one(engine: Engine, seconds: float) -> None:
    """Let an engine wait for so many seconds where the server has no connection to spare."""

    def connect(dialect: Dialect, _: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        return _patiently(
            lambda: dialect.connect(*arguments, **options), dialect.loaded_dbapi.OperationalError, seconds
        )

    event.listen(engine, "do_connect", connect)


def _patiently(connect: Callable[[], Any], refused: type[Exception], seconds: float) -> Any:
    """Connect, again and again where the server is full."""
    deadline, pause = time.monotonic() + seconds, _AGAIN_S
    while True:
        try:
            return connect()
        except refused as error:
            if time.monotonic() > deadline or not is_full(error):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, _LONGEST_S)
