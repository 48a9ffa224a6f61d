"""How a process learns, at little cost, that others have committed: a word from the server, or a look at a number.

The look alone is enough; LISTEN/NOTIFY only makes it come sooner.
"""

from __future__ import annotations

import os
import select
import sqlite3
import time
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import psycopg

NEWS, POST = "gangplan_news", "gangplan_inbox"
"""The channels on which PostgreSQL carries word of changes, and of commands for the leader."""

BUSY, IDLE = 0.003, 0.1
"""Seconds between two looks while something goes on, and when nothing has for long."""

CALM = 1.0
"""Seconds without news after which looks become rarer."""


class Wake(Protocol):
    """What the poller waits on."""

    def wait(self, seconds: float) -> None:
        """Wait until others may have committed, until poked, or so long."""
        ...

    def stir(self) -> None:
        """Look often for a while: something happened, or is awaited. Ends a wait that goes on."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Pace:
    """Looks often after a stir, and ever more rarely when nothing follows."""

    def __init__(self) -> None:
        self._stirred = time.monotonic()

    def stir(self) -> None:
        """Begin to look often."""
        self._stirred = time.monotonic()

    def pause(self) -> float:
        """Return the seconds to the next look."""
        calm = time.monotonic() - self._stirred - CALM
        return BUSY if calm < 0 else min(IDLE, BUSY + calm / 50)


class PlainWake:
    """Waits for a stir of one's own process alone; `looks`: and returns for a look from time to time."""

    def __init__(self, *, looks: bool = False) -> None:
        self._poked = Event()
        self._looks = looks
        self._pace = Pace()

    def wait(self, seconds: float) -> None:
        """See `Wake.wait`."""
        self._poked.wait(min(seconds, self._pace.pause()) if self._looks else seconds)
        self._poked.clear()

    def stir(self) -> None:
        """See `Wake.stir`."""
        self._pace.stir()
        self._poked.set()

    def close(self) -> None:
        """See `Wake.close`."""


class SqliteWake:
    """Looks at a number that SQLite changes when any other connection has committed; a few microseconds a look."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._pace = Pace()
        self._poked = Event()

    def wait(self, seconds: float) -> None:
        """See `Wake.wait`."""
        deadline = time.monotonic() + seconds
        while not self._moved():
            left = deadline - time.monotonic()
            if left <= 0 or self._poked.wait(min(left, self._pace.pause())):
                break
        self._poked.clear()

    def _moved(self) -> bool:
        """Tell whether somebody has committed since the last look."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        moved, self._version = version != self._version, version
        if moved:
            self._pace.stir()
        return moved

    def stir(self) -> None:
        """See `Wake.stir`."""
        self._pace.stir()
        self._poked.set()

    def close(self) -> None:
        """See `Wake.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresWake:
    """Listens to the server; where its connection is gone, looks from time to time until there is one again."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None
        self._poked = Lock()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wait(self, seconds: float) -> None:
        """See `Wake.wait`."""
        import psycopg

        try:
            listening = self._listen()
            ready, _, _ = select.select([listening.fileno(), self._read], [], [], seconds)
            if listening.fileno() in ready:
                list(listening.notifies(timeout=0))
        except psycopg.OperationalError:
            self._forget()
            ready, _, _ = select.select([self._read], [], [], min(seconds, IDLE))
        if self._read in ready:
            os.read(self._read, 4096)

    def _listen(self) -> psycopg.Connection:
        """Return the connection that listens."""
        import psycopg

        if self._connection is None:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self._connection.execute(f"LISTEN {NEWS}; LISTEN {POST}".encode())
        return self._connection

    def _forget(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stir(self) -> None:
        """See `Wake.stir`."""
        with self._poked:
            if self._write >= 0:
                try:
                    os.write(self._write, b".")
                except BlockingIOError:
                    return  # a full pipe wakes it as well

    def close(self) -> None:
        """See `Wake.close`."""
        self._forget()
        with self._poked:
            if self._write >= 0:
                os.close(self._read)
                os.close(self._write)
                self._read = self._write = -1
